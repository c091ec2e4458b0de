import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_demo.diffusion import forward_process
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


@pytest.mark.parametrize("t", [0, 1, 2])
def test_the_chain_takes_all_steps_up_to_t(t):
    """Steps 0 .. t of a large beta, each of which is seen in the mean and the variance."""
    generator = torch.Generator().manual_seed(0)
    x = add_noise_stepwise(torch.ones(20000, dtype=torch.float64), Schedule(torch.full((3,), 0.3)), t, generator)
    assert abs(x.mean() - 0.7 ** ((t + 1) / 2)) < 0.02 and abs(x.var() - (1 - 0.7 ** (t + 1))) < 0.03


def test_agreement_would_notice_a_wrong_chain(monkeypatch):
    """The right chain agrees in about 19 of 20 comparisons; a chain with less noise, hardly ever."""
    schedule, short = Schedule.named("cosine"), Schedule(torch.full((20,), 0.05))
    found = compare_with_closed_form(1.0, schedule, 300)
    assert found.gap < 1.3 * found.critical
    assert abs(found.closed.sum() * (found.middles[1] - found.middles[0]) - 1) < 0.02

    def share_that_agrees():
        compared = [compare_with_closed_form(0.5, short, 9, draws=1000, seed=seed) for seed in range(40)]
        assert all(one.gap > 0 for one in compared)
        return sum(one.gap < one.critical for one in compared) / 40

    assert share_that_agrees() > 0.8
    monkeypatch.setattr(
        forward_process,
        "add_noise_stepwise",
        lambda x0, schedule, t, generator: add_noise_stepwise(x0, Schedule(schedule.betas * 0.4), t, generator),
    )
    assert share_that_agrees() < 0.1


def test_a_comparison_is_that_of_scipy(monkeypatch):
    """Its statistic and critical value are those of the Kolmogorov-Smirnov test, its density is the Gaussian's."""
    schedule, samples = Schedule.named("linear"), []
    for name in ("add_noise", "add_noise_stepwise"):
        method = getattr(forward_process, name)
        monkeypatch.setattr(
            forward_process, name, lambda *given, method=method: samples.append(method(*given)) or samples[-1]
        )
    found = compare_with_closed_form(-0.6, schedule, 60, draws=2000)
    assert found.gap == pytest.approx(stats.ks_2samp(samples[0], samples[1]).statistic, abs=1e-6)
    assert found.critical == pytest.approx(stats.kstwobign.isf(0.05) * (2 / 2000) ** 0.5, rel=2e-3)
    bar = schedule.alpha_bars[60].item()
    truth = stats.norm(bar**0.5 * -0.6, (1 - bar) ** 0.5)
    torch.testing.assert_close(found.expected, torch.from_numpy(truth.pdf(found.middles.numpy())))
    width = (found.middles[1] - found.middles[0]).item()
    edges = torch.cat([found.middles - width / 2, found.middles[-1:] + width / 2]).numpy()
    for density, drawn in zip((found.closed, found.chained), samples):
        counted = torch.from_numpy(np.histogram(drawn.numpy(), edges)[0])
        torch.testing.assert_close(
            density * width * 2000, counted.double(), rtol=0, atol=1.1
        )  # at an edge, one may round
        inside = torch.from_numpy(truth.cdf(found.middles + width / 2) - truth.cdf(found.middles - width / 2))
        # each bin's count is binomial
        assert ((density * width - inside).abs() < 4.5 * (inside / 2000).sqrt() + 1e-3).all()


def test_correlation_falls_from_one_to_nothing():
    values = [compute_correlation(log_snr, 0.4) for log_snr in (20.0, 3.0, 0.0, -3.0, -20.0)]
    assert values == sorted(values, reverse=True) and values[0] > 0.999 and values[-1] < 0.001
    x0 = torch.randn(100000, dtype=torch.float64) * 0.4**0.5
    x = add_noise(x0, Schedule.named("linear").log_snr(250), torch.randn(100000, dtype=torch.float64))
    measured = torch.corrcoef(torch.stack([x0, x]))[0, 1].item()
    assert abs(measured - compute_correlation(Schedule.named("linear").log_snr(250).item(), 0.4)) < 0.01
