"""Bits per dimension by three routes, where the truth is known: a Gaussian and a mixture, cut into 256 levels."""

from math import log, pi

import pytest
import torch
from scipy import stats

from ddpm_demo.diffusion import likelihood
from ddpm_demo.diffusion.mixture import Mixture
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.evaluation import bits_per_dim

WORLDS = {
    "gaussian": Mixture((1.0,), (0.1,), (0.15,)),
    "mixture": Mixture((0.3, 0.5, 0.2), (-0.5, 0.1, 0.6), (0.08, 0.1, 0.05)),
}
COUNT = 100_000


def drawn(world):
    """Samples (N, 1, 1, 1) on the 256 levels, and what each costs in the best code, in bits."""
    x = WORLDS[world].draw(COUNT, torch.Generator().manual_seed(0))
    level = ((x + 1) / likelihood.BIN).round().clamp(0, 255)
    edges = (torch.arange(257, dtype=torch.float64) - 0.5) * likelihood.BIN - 1
    shares, centres, widths = WORLDS[world].parts()
    below = (shares * torch.special.ndtr((edges[:, None] - centres) / widths)).sum(1)
    return (level * likelihood.BIN - 1).reshape(-1, 1, 1, 1), -(below.diff().log() / log(2))[level.long()]


def gaps_of_a_gaussian(schedule, width):
    """What a reverse step of DDPM's variances costs over the exact one of Gaussian data, in bits, summed over t."""
    bars, betas, t = schedule.alpha_bars, schedule.betas, torch.arange(1, len(schedule))
    posterior = (1 - bars[t - 1]) / (1 - bars[t]) * betas[t]
    doubt = width**2 * (1 - bars[t]) / (bars[t] * width**2 + 1 - bars[t])  # the variance of x_0 given x_t
    true = posterior + bars[t - 1] * (betas[t] / (1 - bars[t])) ** 2 * doubt
    ratios = {"posterior": true / posterior, "beta": true / betas[t]}
    return {name: ((r - 1 - r.log()).sum() / (2 * log(2))).item() for name, r in ratios.items()}


@pytest.mark.parametrize("world", WORLDS)
def test_three_routes_lead_to_the_truth(world):
    x0, truth = drawn(world)
    denoise, generator, schedule = WORLDS[world].denoise, torch.Generator().manual_seed(1), Schedule.named("cosine")
    bounds, _ = likelihood.estimate_discrete_bound(denoise, schedule, x0, 40, generator)
    continuous = likelihood.estimate_continuous_bound(denoise, schedule.range, x0, 40, generator)
    ode, _ = likelihood.estimate_ode_likelihood(denoise, schedule.range, x0[:10_000], 1e-5, generator)
    above = {name: (bound.total - truth).mean().item() for name, bound in bounds.items()}
    assert abs((continuous.total - truth).mean()) < 0.01 and abs((ode - truth[:10_000]).mean()) < 0.01
    assert -0.005 < above["beta"] < 0.03
    assert 0.5 < above["posterior"] < 0.6  # too narrow where the data are smooth: a bound indeed, and a loose one
    if world == "gaussian":  # where the looseness of both is known
        assert above == pytest.approx(gaps_of_a_gaussian(schedule, 0.15), abs=0.01)


def test_a_worse_denoiser_costs_more():
    x0, truth = drawn("mixture")
    generator, schedule = torch.Generator().manual_seed(1), Schedule.named("cosine")

    def worse(x, log_snr):
        return WORLDS["mixture"].denoise(x, log_snr) * 0.9

    bound = likelihood.estimate_continuous_bound(worse, schedule.range, x0, 20, generator)
    assert (bound.total - truth).mean() > 0.05


def test_the_discrete_terms_are_the_divergences_of_gaussians():
    """L_{t-1} of one image against torch's own KL between the posterior and the reverse step, for both variances."""
    schedule, t, x0 = Schedule.named("cosine"), torch.tensor([400]), torch.full((1, 1, 2, 2), 0.3, dtype=torch.float64)
    estimate = torch.tensor([0.2, 0.1, 0.5, -0.4], dtype=torch.float64).reshape(1, 1, 2, 2)
    error = (x0 - estimate).square().sum().reshape(1)
    found = likelihood.step_bits(error, t, schedule, x0)
    before, now, beta = schedule.alpha_bars[399], schedule.alpha_bars[400], schedule.betas[400]
    posterior = (1 - before) / (1 - now) * beta
    weight = before.sqrt() * beta / (1 - now)  # of x_0 in the posterior's mean; that of x_t is common to both
    for name, variance in (("posterior", posterior), ("beta", beta)):
        q = torch.distributions.Normal(weight * x0, posterior.sqrt())
        p = torch.distributions.Normal(weight * estimate, variance.sqrt())
        true = torch.distributions.kl_divergence(q, p).sum() / (4 * log(2))
        torch.testing.assert_close(found[name], true.reshape(1))


def test_the_decoder_is_a_distribution_over_the_levels():
    levels = (torch.arange(256, dtype=torch.float64) * likelihood.BIN - 1).reshape(-1, 1, 1, 1)
    for mean in (-1.0, -0.999, 0.004, 0.7, 1.0):
        bits = likelihood.decoder_bits(lambda x, _, m=mean: torch.full_like(x, m), levels, 6.0, torch.Generator())
        assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-9)


def test_the_ode_likelihood_is_that_of_dequantised_levels():
    """A Gaussian as narrow as a level: uniform noise in the level's bin raises -log p by BIN^2 / 24 width^2 nats."""
    width, high = likelihood.BIN / 2, 16.0
    variance = (torch.tensor(high).sigmoid() * width**2 + torch.tensor(-high).sigmoid()).item()  # of the cleanest state
    x0 = torch.full((1500, 1, 2, 2), 0.1, dtype=torch.float64)
    denoise, generator = Mixture((1.0,), (0.1,), (width,)).denoise, torch.Generator().manual_seed(0)
    found, _ = likelihood.estimate_ode_likelihood(denoise, (-14.0, high), x0, 1e-4, generator)
    density = log(2 * pi * variance) / 2 + likelihood.BIN**2 / 24 / variance
    standard_error = (found.std() / len(x0) ** 0.5).item()
    assert found.mean().item() == pytest.approx((density - log(likelihood.BIN)) / log(2), abs=4 * standard_error)
    assert standard_error < 0.005


def test_the_trace_is_estimated_for_pixels_that_depend_on_each_other():
    """Two correlated pixels, against torch's own multivariate Gaussian."""
    width, share = 0.2, 0.8
    covariance = width**2 * torch.tensor([[1, share], [share, 1]], dtype=torch.float64)
    truth = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)
    x0 = truth.rsample((1500,)).reshape(-1, 1, 1, 2)

    def denoise(x, log_snr):
        alpha2 = torch.tensor(log_snr, dtype=torch.float64).sigmoid()
        gain = alpha2.sqrt() * covariance @ torch.linalg.inv(alpha2 * covariance + (1 - alpha2) * torch.eye(2))
        return x @ gain

    found, _ = likelihood.estimate_ode_likelihood(denoise, (-14.0, 14.0), x0, 1e-4, torch.Generator().manual_seed(0))
    expected = -truth.log_prob(x0.flatten(1)) / (2 * log(2)) - log(likelihood.BIN) / log(2)
    gap = found - expected
    assert abs(gap.mean()) < 4 * gap.std() / 1500**0.5 and gap.std() < 1


def test_the_prior_is_a_divergence_of_gaussians():
    x0 = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(3, 2, 2, 2)
    alpha2 = torch.tensor(-3.0, dtype=torch.float64).sigmoid()
    q = torch.distributions.Normal(alpha2.sqrt() * x0, (1 - alpha2).sqrt())
    nats = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(likelihood.prior_bits(x0, -3.0), nats / (8 * log(2)))


def test_the_decoder_is_a_gaussian_around_the_estimate_from_a_noisy_state():
    """Each level's probability by torch's own Gaussian, and a finite cost where it underflows."""
    level, generator = torch.tensor([100, 128, 140, 200]).double() * likelihood.BIN - 1, torch.Generator()
    x0, seen = level.repeat(500).reshape(-1, 1, 1, 1), []

    def denoise(x, log_snr):
        seen.append(x)
        return torch.full_like(x, 0.05)

    bits = likelihood.decoder_bits(denoise, x0, 5.0, generator)
    sigma = torch.tensor(-5.0, dtype=torch.float64).sigmoid().sqrt()
    model = torch.distributions.Normal(torch.tensor(0.05, dtype=torch.float64), sigma)
    mass = model.cdf(level + likelihood.BIN / 2) - model.cdf(level - likelihood.BIN / 2)
    torch.testing.assert_close(bits[:4], -mass.log2(), rtol=1e-5, atol=1e-5)
    assert (seen[0] - (1 - sigma**2).sqrt() * x0).std().item() == pytest.approx(sigma.item(), rel=0.06)
    assert likelihood.decoder_bits(lambda x, _: torch.full_like(x, -1.0), x0, 20.0, generator).max() < 1e3


def test_the_tails_of_the_decoder_are_symmetric():
    """As accurate far above the mean as far below, where the distribution function is nearly 1."""
    x0, generator = torch.tensor([-0.8, 0.8], dtype=torch.float64).reshape(2, 1, 1, 1), torch.Generator()
    bits = likelihood.decoder_bits(lambda x, _: torch.zeros_like(x), x0, 5.0, generator)
    torch.testing.assert_close(bits[1], bits[0])
    sigma = torch.tensor(-5.0).sigmoid().sqrt().item()
    mass = stats.norm(0, sigma).cdf(-0.8 + likelihood.BIN / 2) - stats.norm(0, sigma).cdf(-0.8 - likelihood.BIN / 2)
    assert bits[0].item() == pytest.approx(-log(mass) / log(2), rel=1e-3)  # ten standard deviations from the mean


def test_stratified_numbers_are_one_in_each_part_anywhere_in_it():
    drawn = likelihood.draw_stratified((-3.0, 5.0), 16, 500, torch.Generator().manual_seed(0))
    place = (drawn + 3) * 2
    assert torch.equal(place.floor(), torch.arange(16.0, dtype=torch.float64)[:, None].expand(16, 500))
    assert stats.kstest((place % 1).flatten().numpy(), "uniform").pvalue > 0.01


def test_an_estimate_beyond_the_pixels_is_clamped():
    """No pixel is beyond [-1, 1], so that clamping the estimate can only reduce the error."""
    x0 = torch.full((2, 1, 2, 2), 0.5)
    for estimate, error in ((3.0, 0.25), (-3.0, 2.25), (-0.5, 1.0)):
        squared = likelihood.squared_error(
            lambda x, _, e=estimate: torch.full_like(x, e), x0, torch.zeros(2), torch.Generator()
        )
        torch.testing.assert_close(squared, torch.full((2,), 4 * error, dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_measured_on_a_model_of_any_prediction(model, prediction):
    from dataclasses import replace

    model = replace(model, denoiser=replace(model.denoiser, prediction=prediction))
    images = torch.rand(6, model.channels, model.image_size, model.image_size) * 2 - 1
    evaluations, reports = zip(*bits_per_dim.measure(model, images, draws=4, ode_images=2, tolerance=0.05, seed=0))
    report = reports[-1]
    assert sum(evaluations) > 2 * 5 * 6 and report["images"] == 6 and report["ode"]["images"] == 2
    for name in ("posterior", "beta", "continuous"):
        parts = report[name]
        assert parts["total"]["mean"] == pytest.approx(sum(parts[part]["mean"] for part in ("L_T", "L_t", "L_0")))
        assert parts["total"]["mean"] > 5  # of noise
    assert len(report["curve"]["t"]) == len(report["curve"]["beta"]) > 5
