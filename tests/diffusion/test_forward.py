import pytest
import torch

from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.forward_process import add_noise_stepwise, compare_with_closed_form, compute_correlation
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [0, 40, 999])
def test_the_chain_and_the_closed_form_have_the_same_mean_and_variance(name, t):
    schedule, generator = Schedule.named(name), torch.Generator().manual_seed(0)
    x0 = torch.full((20000,), 0.7, dtype=torch.float64)
    walked = add_noise_stepwise(x0, schedule, t, generator)
    jumped = add_noise(x0, schedule.log_snr(t), torch.randn(20000, generator=generator, dtype=torch.float64))
    for x in (walked, jumped):
        assert abs(x.mean() - 0.7 * schedule.alpha_bars[t] ** 0.5) < 0.03
        assert abs(x.var() - (1 - schedule.alpha_bars[t])) < 0.03


def test_agreement_would_notice_a_wrong_chain():
    schedule = Schedule.named("cosine")
    found = compare_with_closed_form(1.0, schedule, 300)
    assert found.gap < 1.3 * found.usual
    assert abs(found.closed.sum() * (found.middles[1] - found.middles[0]) - 1) < 0.02
    off_by_many = compare_with_closed_form(1.0, Schedule(schedule.betas * 0.5), 300)
    assert (off_by_many.expected - found.expected).abs().max() > 0.1


def test_correlation_falls_from_one_to_nothing():
    values = [compute_correlation(log_snr, 0.4) for log_snr in (20.0, 3.0, 0.0, -3.0, -20.0)]
    assert values == sorted(values, reverse=True) and values[0] > 0.999 and values[-1] < 0.001
    x0 = torch.randn(100000, dtype=torch.float64) * 0.4**0.5
    x = add_noise(x0, Schedule.named("linear").log_snr(250), torch.randn(100000, dtype=torch.float64))
    measured = torch.corrcoef(torch.stack([x0, x]))[0, 1].item()
    assert abs(measured - compute_correlation(Schedule.named("linear").log_snr(250).item(), 0.4)) < 0.01
