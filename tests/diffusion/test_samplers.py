"""Every sampler against diffusers' update rules in float64, and against the analytic optimum of a mixture."""

from itertools import pairwise
from math import sqrt

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler

from ddpm_demo.diffusion.denoiser import Denoiser, alpha_sigma
from ddpm_demo.diffusion.mixture import Mixture
from ddpm_demo.diffusion.reverse_process import walk
from ddpm_demo.diffusion.samplers import SAMPLERS, langevin_step
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule

STEPS = 20
X = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(x, timestep, label=None, image=None):
    """Any smooth function of x and the timestep."""
    return torch.tanh(x + 0.3 * torch.sin(timestep.double() / 100)) * 0.7


def drawn(seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(X.shape, generator=generator, dtype=dtype)


def states(sampler, name, prediction, noise=None, **settings):
    schedule = Schedule.named(name)
    denoiser, sampling = Denoiser(network, schedule, prediction), Sampling(sampler=sampler, **settings)
    steps = list(walk(denoiser, X, schedule.grid(STEPS), sampling=sampling, noise=noise))
    return [step.x for step in steps] + [steps[-1].x0]


def close(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler", ["ddpm", "ddpm-beta", "ddim"])
def test_ddpm_and_ddim_are_those_of_diffusers(sampler, name, prediction):
    common = {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": prediction}
    if sampler == "ddim":
        scheduler = DDIMScheduler(set_alpha_to_one=True, **common)
    else:
        scheduler = DDPMScheduler(variance_type="fixed_large" if "beta" in sampler else "fixed_small", **common)
    schedule = Schedule.named(name)
    scheduler.alphas_cumprod = schedule.alpha_bars  # theirs are float32
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(STEPS)
    x, generator, theirs = X, torch.Generator().manual_seed(1), [X]
    for t in scheduler.timesteps:
        options = {} if sampler == "ddim" else {"generator": generator}
        x = scheduler.step(network(x, t), int(t), x, **options).prev_sample
        theirs.append(x)
    variance = "beta" if "beta" in sampler else "posterior"
    ours = states(sampler.partition("-")[0], name, prediction, noise=drawn(), variance=variance)
    if sampler == "ddpm-beta":  # theirs adds noise to a last step that skips timesteps; algorithm 2 never does
        ours, theirs = ours[:-1], theirs[:-1]
    close(ours, theirs)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("sampler, algorithm", [("dpm++2m", "dpmsolver++"), ("sde-dpm++2m", "sde-dpmsolver++")])
def test_dpm_solver_is_that_of_diffusers(sampler, algorithm, name):
    """Their own update functions, called directly, since their ``step`` rounds to float32."""
    schedule, noise = Schedule.named(name), drawn()
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type=algorithm, timestep_spacing="trailing", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(STEPS)
    grid = schedule.grid(STEPS)
    scheduler.sigmas = torch.cat([torch.exp(-grid / 2), torch.zeros(1, dtype=torch.float64)])
    x, outputs, theirs = X, [], [X]
    for index, log_snr in enumerate(grid):
        scheduler._step_index = index
        outputs.append(Denoiser(network, schedule, "epsilon")(x, log_snr))
        z = noise() if algorithm.startswith("sde") and index + 1 < STEPS else torch.zeros_like(X)
        if index in (0, STEPS - 1):
            x = scheduler.dpm_solver_first_order_update(outputs[-1], sample=x, noise=z)
        else:
            x = scheduler.multistep_dpm_solver_second_order_update(outputs[-2:], sample=x, noise=z)
        theirs.append(x)
    close(states(sampler, name, "epsilon", noise=drawn()), theirs)


GAUSSIAN = Mixture((1.0,), (0.3,), (0.2,))


@pytest.mark.parametrize("snr", [None, 0.1, 0.4])
def test_the_sde_samplers_follow_the_published_recursion(snr):
    """Euler-Maruyama steps, and Langevin steps after them, of Gaussian data: in terms of its score and of alpha_bar."""
    grid, noise, x, theirs = Schedule.named("linear").grid(STEPS), drawn(), X, [X]

    def score(x, bar):
        return -(x - bar.sqrt() * 0.3) / (bar * 0.2**2 + 1 - bar)

    for now, after in pairwise(torch.sigmoid(grid)):
        beta = (after / now).log()
        x = x + (x / 2 + score(x, now)) * beta + beta.sqrt() * noise()
        if snr is not None:
            size = 2 * snr**2 * (1 - after)
            x = x + size * score(x, after) + (2 * size).sqrt() * noise()
        theirs.append(x)
    settings = {"sampler": "euler-maruyama"} if snr is None else {"sampler": "pc", "corrector_snr": snr}
    close((s.x for s in walk(GAUSSIAN.denoise, X, grid, sampling=Sampling(**settings), noise=drawn())), theirs)


@pytest.mark.parametrize("log_snr", [-4.0, 0.0, 5.0])
def test_the_langevin_step_has_the_published_size(log_snr):
    """e = 2 (snr * |z| / |score|)^2, with the norms of a large state (Song et al. 2021, Score SDE, algorithm 4)."""
    x0, eps, z = torch.randn(3, 1, 1, 300, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha, sigma = alpha_sigma(log_snr)
    x, score = alpha * x0 + sigma * eps, -eps / sigma
    size = 2 * (0.16 * z.norm() / score.norm()) ** 2
    moved = langevin_step(x, x0, log_snr, 0.16, z) - x
    assert (moved - size * score - (2 * size).sqrt() * z).norm() < 0.01 * moved.norm()


def test_langevin_steps_reach_their_stationary_distribution():
    """Steps of size e on a Gaussian of variance v end in one of variance v / (1 - e / 2v), around the same mean."""
    log_snr, snr, noise = 1.0, 0.5, torch.Generator().manual_seed(0)
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    v, size = alpha**2 * 0.2**2 + sigma**2, 2 * (snr * sigma) ** 2
    x = torch.full((20000,), 3.0, dtype=torch.float64)
    for steps in range(1, 41):
        x = langevin_step(x, GAUSSIAN.denoise(x, log_snr), log_snr, snr, torch.randn(20000, generator=noise).double())
        if steps in (1, 4, 40):
            kept = (1 - size / v) ** steps  # of the distance to the mean
            variance = v * (1 - kept**2) / (1 - size / (2 * v))
            assert abs(x.mean() - alpha * 0.3 - kept * (3 - alpha * 0.3)) < 4 * sqrt(variance / 20000)
            assert x.var().item() == pytest.approx(variance, rel=0.04)


def test_the_tolerance_of_the_ode_decides_its_accuracy_and_its_cost():
    """Gaussian data: along the ODE, a state stays at the same number of standard deviations from the mean."""
    grid, calls, errors = Schedule.named("cosine").grid(STEPS), [], []
    for tolerance in (1e-2, 1e-5):
        steps = list(walk(GAUSSIAN.denoise, X, grid, sampling=Sampling(sampler="ode", ode_tolerance=tolerance)))
        places = []
        for one in steps:
            alpha, sigma = alpha_sigma(one.log_snr)
            places.append((one.x - alpha * 0.3) / (alpha**2 * 0.2**2 + sigma**2).sqrt())
        errors.append(max((place - places[0]).abs().max().item() for place in places))
        calls.append(steps[-1].nfe)
    assert errors[1] < 1e-3 < errors[0] and calls[0] < calls[1]


MIXTURE = Mixture((0.3, 0.5, 0.2), (-0.8, 0.1, 0.7), (0.1, 0.1, 0.1))
mixture = MIXTURE.denoise


def ends(sampler, steps, name="cosine", count=8000):
    generator = torch.Generator().manual_seed(2)

    def noise():
        return torch.randn(count, 1, 1, 1, dtype=torch.float64, generator=generator)

    grid, sampling = Schedule.named(name).grid(steps), Sampling(sampler=sampler)
    *_, last = walk(mixture, noise(), grid, sampling=sampling, noise=noise)
    return last.x0.flatten()


@pytest.mark.parametrize(
    "name", [name if name in ("linear", "cosine") else pytest.param(name, marks=pytest.mark.slow) for name in SCHEDULES]
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_the_mixture(sampler, name):
    """Kolmogorov-Smirnov: the largest gap between the samples' distribution and the true one."""
    drawn = ends(sampler, 400, name).sort().values
    shares, centres, widths = MIXTURE.parts()
    true = (shares * torch.special.ndtr((drawn[:, None] - centres) / widths)).sum(1)
    gap = (true - (torch.arange(len(drawn)) + 0.5) / len(drawn)).abs().max().item()
    assert gap < (0.05 if name in ("linear", "sigmoid") else 0.035)  # 0.015 is what 8,000 true draws give


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m", "heun", "ode"])
def test_two_schedules_reach_the_same_end_of_the_ode(sampler):
    """The probability-flow ODE depends on the noise alone: the schedule only chooses where to stop on the way."""
    cosine, sigmoid = ends(sampler, 1000, "cosine", 2000), ends(sampler, 1000, "sigmoid", 2000)
    assert (cosine - sigmoid).abs().mean() < 0.01


def test_more_than_first_order():
    exact = ends("heun", 1000, count=2000)
    error = {
        (sampler, steps): (ends(sampler, steps, count=2000) - exact).abs().mean().item()
        for sampler in ("ddim", "dpm++2m", "heun")
        for steps in (25, 100)
    }
    for sampler in ("dpm++2m", "heun"):
        assert error[sampler, 25] < error["ddim", 25] and error[sampler, 100] < error["ddim", 100] / 2


def test_heun_agrees_with_diffusers_as_the_stride_shrinks():
    """Theirs averages eps, ours the clean estimate: both of second order, so the gap falls fourfold per halving."""

    def theirs(steps):
        scheduler, grid = HeunDiscreteScheduler(), GRIDS[steps]
        scheduler.set_timesteps(steps)
        sigmas = torch.exp(-grid / 2)
        scheduler.sigmas = torch.cat([sigmas[:1], sigmas[1:].repeat_interleave(2), torch.zeros(1)])
        scheduler.timesteps = torch.arange(2 * steps - 1)
        scheduler._step_index, scheduler.dt = 0, None
        x = X / alpha_sigma(grid[0])[0]
        for index in range(2 * steps - 1):
            sigma = scheduler.sigmas[min(index, 2 * steps - 2) if index % 2 == 0 else index]
            log_snr = -2 * sigma.log()
            x_vp = x * alpha_sigma(log_snr)[0]
            eps = (x_vp - alpha_sigma(log_snr)[0] * mixture(x_vp, log_snr)) / alpha_sigma(log_snr)[1]
            x = scheduler.step(eps, scheduler.timesteps[index], x).prev_sample
        return x

    GRIDS = {steps: torch.linspace(-2, 6, steps, dtype=torch.float64) for steps in (20, 40, 80)}
    gaps = []
    for steps, grid in GRIDS.items():
        *_, last = walk(mixture, X, grid, sampling=Sampling(sampler="heun"))
        gaps.append((last.x0 - theirs(steps)).abs().max().item())
    assert gaps[1] < gaps[0] / 3 and gaps[2] < gaps[1] / 3


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_a_step_says(sampler):
    grid, sampling = Schedule.named("cosine").grid(5), Sampling(sampler=sampler)
    steps = list(walk(mixture, X, grid, sampling=sampling, clip=True, noise=drawn()))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4] and {step.total for step in steps} == {5}
    calls = [step.nfe for step in steps]
    if sampler == "ode":  # as many as the tolerance takes
        assert all(a < b for a, b in pairwise(calls)) and calls[0] == 1 and calls[-1] > 15
    else:
        assert calls == [1 + SAMPLERS[sampler].calls * k for k in range(5)]
    for step in steps:
        alpha, sigma = alpha_sigma(step.log_snr)
        torch.testing.assert_close(alpha * step.x0 + sigma * step.eps, step.x)
        assert step.x0.abs().max() <= 1 and step.guidance is None


def test_a_wrong_name_is_named():
    with pytest.raises(ValueError, match="sampler is 'euler'; it must be one of ddpm, ddim, "):
        Sampling(sampler="euler")
    with pytest.raises(ValueError, match="variance is 'big'; it must be one of posterior, beta"):
        Sampling(variance="big")
