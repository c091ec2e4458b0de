import pytest
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


def test_the_reverse_step_of_a_gaussian_is_the_known_posterior():
    """Bayes' rule for Gaussians; the two curves then are one."""
    mean, width, beta, z = 0.3, 0.4, 0.2, 0.9
    found = reverse_step(Mixture((1.0,), (mean,), (width,)), beta, z)
    variance = 1 / (1 / width**2 + (1 - beta) / beta)
    middle = variance * (mean / width**2 + (1 - beta) ** 0.5 * z / beta)
    posterior = torch.distributions.Normal(torch.tensor(middle).double(), variance**0.5).log_prob(found.positions).exp()
    spread = ((1 - beta) * width**2 + beta) ** 0.5
    marginal = torch.distributions.Normal(torch.tensor((1 - beta) ** 0.5 * mean).double(), spread)
    torch.testing.assert_close(found.exact, posterior, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.gaussian, posterior, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.marginal, marginal.log_prob(found.positions).exp(), rtol=1e-4, atol=1e-6)
    assert found.gap < 1e-5


def test_the_gap_is_the_total_variation_distance():
    """The largest difference between the probabilities that the two give to the same set."""
    found = reverse_step(DATA, 0.3, 0.4)
    width = found.positions[1] - found.positions[0]
    assert found.gap == pytest.approx(((found.exact - found.gaussian).clamp(min=0).sum() * width).item(), abs=1e-3)
    mean, square = ((density * found.positions**k).sum() * width for density in (found.exact,) for k in (1, 2))
    torch.testing.assert_close((found.gaussian * found.positions).sum() * width, mean, rtol=0, atol=1e-3)
    torch.testing.assert_close((found.gaussian * found.positions**2).sum() * width, square, rtol=0, atol=5e-3)


def test_every_state_of_the_forward_process_has_its_marginal():
    """Gaussian data: mean and variance at every log-SNR of the path, in closed form."""
    schedule = Schedule.named("linear")
    forward = forward_paths(Mixture((1.0,), (0.5,), (0.2,)), schedule, 10, 20000)
    alpha2 = torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(schedule.grid(10).flip(0))])
    torch.testing.assert_close(forward.mean(1), alpha2.sqrt() * 0.5, rtol=0, atol=0.03)
    torch.testing.assert_close(forward.var(1), alpha2 * 0.04 + 1 - alpha2, rtol=0.04, atol=0)


def test_paths_begin_and_end_where_they_should():
    schedule = Schedule.named("linear")
    forward = forward_paths(DATA, schedule, 300, 4000)
    assert forward.shape == (301, 4000)
    assert abs(forward[-1].std() - 1) < 0.05 and abs(forward[-1].mean()) < 0.05
    for sampler in ("euler-maruyama", "heun"):
        start, *_, end = reverse_paths(DATA, schedule, 300, 4000, sampler)
        assert abs(start.std() - 1) < 0.05 and abs(start.mean()) < 0.05
        for share, centre in zip(DATA.shares, DATA.centres):
            assert abs(((end - centre).abs() < 0.4).double().mean() - share) < 0.04
