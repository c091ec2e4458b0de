"""What the reverse process passes on, clamps, counts and refuses."""

import pytest
import torch

from ddpm_demo.diffusion.reverse_process import walk
from ddpm_demo.diffusion.sampling import Sampling

X, GRID = torch.full((2, 1, 2, 2), 0.5), torch.tensor([-4.0, 0.0, 3.0])


@pytest.mark.parametrize("clip", [False, True])
def test_estimates_are_clamped_only_if_asked(clip):
    steps = list(walk(lambda x, log_snr, label: torch.full_like(x, -3.0), X, GRID, clip=clip))
    for step in steps:
        assert (step.x0 == (-1 if clip else -3)).all()
        bar = torch.sigmoid(torch.tensor(step.log_snr))
        torch.testing.assert_close(step.eps, (step.x - bar.sqrt() * step.x0) / (1 - bar).sqrt())
    assert [step.log_snr for step in steps] == GRID.tolist() and [step.nfe for step in steps] == [1, 2, 3]


def test_the_denoiser_is_given_state_noise_level_and_label_and_no_gradient_is_kept():
    seen, scale, label = [], torch.tensor(0.5, requires_grad=True), torch.tensor([4, 7])

    def denoise(x, log_snr, label):
        seen.append((x, log_snr, label))
        return x * scale

    steps = list(walk(denoise, X, GRID, label))
    for step, (x, log_snr, given) in zip(steps, seen, strict=True):
        assert step.x is x and step.log_snr == log_snr and given is label and not step.x0.requires_grad


def test_new_noise_is_drawn_if_none_is_given():
    torch.manual_seed(0)
    x = torch.zeros(1, 1, 100, 100)
    steps = list(walk(lambda x, *_: x * 0, x, torch.tensor([-10.0, 0.0]), sampling=Sampling(sampler="ddpm")))
    assert steps[1].x.std().item() == pytest.approx(0.5**0.5, rel=0.03)  # of a log-SNR of 0, all of it new


def test_a_single_number_that_is_not_finite_ends_the_process():
    def denoise(x, log_snr, label):
        estimate = torch.zeros_like(x)
        estimate[1, 0, 1, 1] = float("inf") if log_snr > 1 else 0
        return estimate

    with pytest.raises(FloatingPointError, match="network call 3 gave numbers that are not finite"):
        list(walk(denoise, X, GRID))
