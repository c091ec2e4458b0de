import pytest
import torch
from diffusers import DDPMScheduler

from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule, trained_schedule

DIFFUSERS = {"linear": "linear", "quadratic": "scaled_linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_betas_are_those_of_diffusers(name):
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS[name], beta_start=1e-4, beta_end=0.02).betas
    torch.testing.assert_close(Schedule.named(name).betas, theirs.double(), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_timestep_and_log_snr_are_inverse(name):
    schedule = Schedule.named(name)
    t = torch.linspace(0, 999, 4321, dtype=torch.float64)
    torch.testing.assert_close(schedule.timestep(schedule.log_snr(t)), t, rtol=0, atol=1e-8)
    assert (schedule.log_snr(t).diff() < 0).all()
    torch.testing.assert_close(schedule.log_snr(torch.arange(1000)), schedule.log_snrs)


def test_log_snr_is_clamped_outside_the_table():
    schedule = Schedule.named("linear")
    assert schedule.timestep(-50.0) == 999 and schedule.timestep(50.0) == 0
    assert schedule.log_snr(-3) == schedule.log_snrs[0] and schedule.log_snr(2000) == schedule.log_snrs[-1]


@pytest.mark.parametrize(
    "name, noisiest, cleanest",
    [("linear", -10.1, 9.2), ("quadratic", -7.2, 9.2), ("sigmoid", -10.1, 8.8), ("cosine", -19.8, 10.1)],
)
def test_ranges(name, noisiest, cleanest):
    assert Schedule.named(name).range == pytest.approx((noisiest, cleanest), abs=0.06)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 999, 1000])
def test_grid_rises_from_the_noisiest_within_the_trained_range(name, steps):
    within = Schedule.named("linear").range
    grid = Schedule.named(name).grid(steps, within)
    assert len(grid) == steps and (grid.diff() > 0).all()
    assert grid[0].item() == pytest.approx(max(within[0], Schedule.named(name).range[0]))
    assert grid[-1].item() <= within[1]


def test_grid_of_a_thousand_steps_is_the_whole_table():
    schedule = Schedule.named("cosine")
    torch.testing.assert_close(schedule.grid(1000), schedule.log_snrs.flip(0))
    torch.testing.assert_close(schedule.timestep(schedule.grid(20)), torch.arange(999, 0, -50).double())


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, float("nan"), True])
def test_a_wrong_step_count_is_named(steps):
    with pytest.raises(ValueError, match="steps is .*; it must be a whole number from 1 to 1000"):
        Schedule.named("cosine").grid(steps)


def test_a_wrong_name_or_table_is_named():
    with pytest.raises(ValueError, match="schedule is 'cosin'; it must be one of linear, quadratic, cosine, sigmoid"):
        Schedule.named("cosin")
    for betas in ([0.1, 1.5], [0.1, 1.0], [0.0, 0.1], [0.1], [[0.1, 0.2]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Schedule(torch.tensor(betas))


def test_every_log_snr_is_trained_equally_often():
    schedule = Schedule.named("cosine")
    u = (torch.arange(3000) + 0.5) / 3000
    assert torch.equal(schedule.at(u), schedule.log_snrs.repeat_interleave(3))
    assert schedule.at(torch.ones(1)) == schedule.log_snrs[-1]  # a number below 1 may round to 1


def test_a_grid_begins_where_it_is_asked_within_the_trained_range():
    schedule, linear = Schedule.named("cosine"), Schedule.named("linear").range
    for start, within, first in ((300.0, None, 300.0), (999, linear, schedule.timestep(linear[0]).item())):
        grid = schedule.grid(10, within, start)
        assert len(grid) == 10 and schedule.timestep(grid[0]).item() == pytest.approx(first)
        strides = schedule.timestep(grid).diff()
        torch.testing.assert_close(strides, strides[:1].expand(9), rtol=1e-6, atol=1e-6)
    close = schedule.grid(50, start=15)  # steps of less than a timestep: those beyond the table would be repeated
    assert (close.diff() > 0).all() and 40 < len(close) < 50 and close[-1] == schedule.log_snrs[0]


def test_continuous_time_is_the_limit_of_the_linear_schedule():
    continuous, linear = trained_schedule("linear", "continuous"), Schedule.named("linear")
    assert (continuous.log_snrs - linear.log_snrs).abs().max() < 0.11
    torch.testing.assert_close(continuous.log_snr(torch.arange(1000)), continuous.log_snrs)
    # the integral of beta = 0.1 + 19.9 time, by quadrature
    for time in (0.003, 0.2, 1.0):
        points = torch.linspace(0, time, 10001, dtype=torch.float64)
        alpha_bar = torch.exp(-torch.trapezoid(0.1 + 19.9 * points, points))
        torch.testing.assert_close(continuous.log_snr(1000 * time - 1), torch.logit(alpha_bar), rtol=1e-9, atol=0)
    t = torch.linspace(-0.99, 999, 4321, dtype=torch.float64)
    torch.testing.assert_close(continuous.timestep(continuous.log_snr(t)), t, rtol=0, atol=1e-8)
    assert continuous.range == pytest.approx((-10.05, 13.8), abs=0.02)
    grid = continuous.grid(50)
    assert (
        grid[0].item() == pytest.approx(continuous.range[0])
        and (grid.diff() > 0).all()
        and grid[-1] < continuous.range[1]
    )


def test_what_a_training_draws():
    u = torch.linspace(0, 0.9999, 5000)
    drawn = {time: trained_schedule("linear", time).at(u) for time in ("discrete", "continuous")}
    assert len(drawn["discrete"].unique()) == 1000 and len(drawn["continuous"].unique()) == 5000
    assert (drawn["discrete"] - drawn["continuous"])[100:].abs().max() < 0.1
    with pytest.raises(ValueError, match="limit of the linear schedule"):
        trained_schedule("cosine", "continuous")
