import torch

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.mixture import Mixture, forward_paths, reverse_paths, reverse_step
from ddpm_demo.diffusion.schedule import Schedule

DATA = Mixture()


def test_the_denoiser_is_the_posterior_mean():
    """E[x_0 | x] by numerical integration, at a few x and noise levels; the density integrates to 1."""
    x0 = torch.linspace(-2, 2, 40001, dtype=torch.float64)
    prior = DATA.density(x0)
    assert abs(prior.sum() * 1e-4 - 1) < 1e-6
    for log_snr in (-6.0, 0.0, 4.0):
        alpha, sigma = alpha_sigma(log_snr)
        for x in (-0.9, 0.2, 0.5):
            weight = prior * torch.exp(-((x - alpha * x0) ** 2) / (2 * sigma**2))
            expected = (weight * x0).sum() / weight.sum()
            assert abs(DATA.denoise(torch.tensor(x, dtype=torch.float64), log_snr) - expected) < 1e-6


def test_the_score_is_the_gradient_of_the_log_density():
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64, requires_grad=True)
    alpha, sigma = alpha_sigma(0.5)
    DATA.density(x, 0.5).log().sum().backward()
    torch.testing.assert_close(x.grad, (alpha * DATA.denoise(x.detach(), 0.5) - x.detach()) / sigma**2)


def test_the_reverse_step_is_gaussian_for_small_steps_only():
    gaps = [reverse_step(DATA, beta, 0.45).gap for beta in (1e-3, 1e-2, 0.1, 0.3)]
    assert gaps[0] < 0.03 < 0.2 < max(gaps)
    large = reverse_step(DATA, 0.3, 0.4)
    middle = large.exact[1:-1]
    peaks = ((middle > large.exact[:-2]) & (middle > large.exact[2:]) & (middle > 0.05)).sum()
    assert peaks >= 2
    width = large.positions[1] - large.positions[0]
    for density in (large.exact, large.gaussian):
        assert abs(density.sum() * width - 1) < 0.02


def test_paths_begin_and_end_where_they_should():
    schedule = Schedule.named("linear")
    forward = forward_paths(DATA, schedule, 300, 4000)
    assert forward.shape == (301, 4000)
    assert abs(forward[-1].std() - 1) < 0.05 and abs(forward[-1].mean()) < 0.05
    for sampler in ("euler-maruyama", "heun"):
        end = reverse_paths(DATA, schedule, 300, 4000, sampler)[-1]
        for share, centre in zip(DATA.shares, DATA.centres):
            assert abs(((end - centre).abs() < 0.4).double().mean() - share) < 0.04
