"""Bits per dimension by three routes, where the truth is known: a Gaussian and a mixture, cut into 256 levels."""

from math import log

import pytest
import torch

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
    ode, _ = likelihood.estimate_ode_likelihood(denoise, schedule.range, x0, 1e-5, generator)
    above = {name: (bound.total - truth).mean().item() for name, bound in bounds.items()}
    assert abs((continuous.total - truth).mean()) < 0.01 and abs((ode - truth).mean()) < 0.01
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
