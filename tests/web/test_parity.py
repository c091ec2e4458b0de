"""The JavaScript of the static demo computes what Python computes, step by step, from the same seeds, in Chromium."""

import itertools
import json
import threading
from dataclasses import replace

import pytest
import torch
from browser import browser  # noqa: F401 a fixture
from conftest import tiny_model
from playwright.sync_api import Error
from torch import nn

from ddpm_demo import Completion, NoisedImage, PureNoise, sample
from ddpm_demo.diffusion.denoiser import Denoiser, alpha_sigma
from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES, ContinuousSchedule, Schedule
from ddpm_demo.generation.begin import MixedNoise
from ddpm_demo.web import site
from ddpm_demo.web.export import describe_model

WEIGHTS = (0.0, 1.5, -1.0)
INTERVALS = (ALWAYS, (-4.0, 1.0))
CLOSE = 1e-4  # largest difference of a clean estimate


class Gaussian(nn.Module):
    """The network of Gaussian data, in closed form: pixels of variance 1/4 and a mean that depends on the label.

    The mean depends on the timestep as well, so that a wrong timestep is noticed.
    """

    takes_image = False

    def __init__(self, schedule, prediction, classes):
        super().__init__()
        self.schedule, self.prediction, self.num_classes = schedule, prediction, classes
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep, label=None, image=None):
        label = torch.full((len(x),), self.num_classes) if label is None else label
        mean = (label.double().sin() / 2 + timestep / 4000).float().reshape(-1, 1, 1, 1)
        alpha, sigma = (c.float().reshape(-1, 1, 1, 1) for c in alpha_sigma(self.schedule.log_snr(timestep)))
        x0 = mean + alpha / 4 / (alpha**2 / 4 + sigma**2) * (x - alpha * mean)
        eps = (x - alpha * x0) / sigma
        return {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0}[self.prediction]


# The same network in JavaScript, for the facts about a model.
GAUSSIAN = """(mathematics, model) => (x, timestep, labels) => {
  const [alpha, sigma] = mathematics.alphaSigma(mathematics.trainedSchedule(model).logSnr(timestep));
  return x.map((value, k) => {
    const mean = Math.sin(labels[Math.floor(k * labels.length / x.length)]) / 2 + timestep / 4000;
    const x0 = mean + alpha / 4 / (alpha ** 2 / 4 + sigma ** 2) * (value - alpha * mean);
    const eps = (value - alpha * x0) / sigma;
    return { epsilon: eps, sample: x0, v_prediction: alpha * eps - sigma * x0 }[model.prediction];
  });
}"""

# Runs every request with one network, and returns all steps as JSON, which is faster than Playwright's own conversion.
RUN_ALL = """async ([model, requests, network]) => {
  const mathematics = await import("/diffusion.js"), net = network ? eval(network)(mathematics, model) : window.network;
  const runs = [];
  for (const request of requests) {
    const steps = [];
    for await (const step of mathematics.sample(model, net, request)) steps.push(step);
    runs.push(steps);
  }
  return JSON.stringify(runs, (_, value) => value instanceof Float32Array ? [...value] : value);
}"""


def gaussian_model(prediction="v_prediction", schedule=None):
    """A model of Gaussian data, two channels of 4 x 4 pixels in patches, with three classes."""
    schedule = schedule or Schedule.named("cosine")
    denoiser = Denoiser(Gaussian(schedule, prediction, classes=3), schedule, prediction)
    return replace(tiny_model(classes=3, size=4, channels=2), denoiser=denoiser)


@pytest.fixture(scope="module")
def page(browser):  # noqa: F811
    """An empty page at the address of the scripts."""
    with site.serve(site.STATIC) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/random.js")
        yield page
        server.shutdown()
        thread.join()


def run_all(page, facts, requests, network=GAUSSIAN):
    """The steps of every request in the browser; ``network`` None is the one that the page has."""
    return json.loads(page.evaluate(RUN_ALL, [facts, requests, network]))


def request_of(sampling, labels=None, count=1, begin=None):
    """The last argument of JavaScript's ``sample``."""
    request = {"labels": labels, "count": count, "sampling": sampling.as_dict()}
    return request | ({"begin": begin} if begin else {})


def assert_same_steps(steps, expected):
    """Compare a run of JavaScript with the steps of Python."""
    for mine, step in zip(steps, expected, strict=True):
        assert [mine[name] for name in ("index", "total", "nfe", "guided")] == [
            step.index, step.total, step.nfe, step.guided
        ]  # fmt: skip
        assert (mine["logSnr"], mine["timestep"]) == pytest.approx((step.log_snr, step.timestep), abs=1e-6)
        assert (mine["guidance"] is None) == (step.guidance is None)
        assert_close(mine["x0"], step.x0, CLOSE)
        assert_close(mine["x"], step.x, CLOSE)
        assert_close(mine["eps"], step.eps, 10 * CLOSE)  # divided by sigma, which is small at the end
        if step.guidance is not None:
            assert_close(mine["guidance"], step.guidance, CLOSE)


def assert_close(numbers, expected, tolerance):
    assert (torch.tensor(numbers) - expected.flatten()).abs().max() < tolerance


def table():
    """Every sampler, schedule, weight and interval, and the settings that only some samplers use."""
    for sampler, schedule, weight, interval in itertools.product(site.SAMPLERS_HERE, SCHEDULES, WEIGHTS, INTERVALS):
        yield Sampling(sampler=sampler, schedule=schedule, weight=weight, interval=interval, steps=4, seed=3)
    for sampler in ("ddpm", "sde-dpm++2m"):
        yield Sampling(sampler=sampler, variance="beta", steps=5, weight=1.5)
    yield Sampling(sampler="pc", corrector_snr=0.3, steps=5, weight=1.5)
    yield from (Sampling(steps=steps, schedule="linear") for steps in (1, 2, 100))


def test_every_sampler_schedule_weight_and_interval_as_in_python(page):
    model, samplings = gaussian_model(), list(table())
    runs = run_all(page, describe_model(model, "gaussian"), [request_of(sampling, [0, 2]) for sampling in samplings])
    for sampling, steps in zip(samplings, runs, strict=True):
        assert_same_steps(steps, sample(model, [0, 2], sampling=sampling))


TRAINED = {name: Schedule.named(name) for name in SCHEDULES} | {"sde": ContinuousSchedule()}
# Not epsilon on the cosine schedule: at its first log-SNR, -19.8, the estimate (x - sigma * eps) / alpha has a rounding
# error of 2e-3 in Python's float32 itself.
PAIRS = [pair for pair in itertools.product(["epsilon", "sample"], TRAINED) if pair != ("epsilon", "cosine")]


@pytest.mark.parametrize("prediction, trained", PAIRS)
def test_every_prediction_and_schedule_of_training_as_in_python(page, prediction, trained):
    model, sampling = gaussian_model(prediction, TRAINED[trained]), Sampling(weight=1.5, steps=5)
    (steps,) = run_all(page, describe_model(model, "gaussian"), [request_of(sampling, [1])])
    assert_same_steps(steps, sample(model, [1], sampling=sampling))


def test_every_start_as_in_python(page):
    model, last = gaussian_model(), 2**32 - 2
    images = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    keep = torch.zeros(4, 4, dtype=torch.bool)
    keep[1:, :2] = True
    listed = {"image": images[0].flatten().tolist(), "keep": keep.flatten().int().tolist()}
    both = {"image": images.flatten().tolist(), "start": 600}
    starts = [
        ({"kind": "NoisedImage", "image": listed["image"], "start": 300.5}, NoisedImage(images[0], 300.5)),
        ({"kind": "NoisedImage"} | both, NoisedImage(images, 600)),
        ({"kind": "Completion"} | listed, Completion(images[0], keep)),
        ({"kind": "Completion"} | listed | both, Completion(images, keep, 600)),
    ]
    samplings = [Sampling(sampler=name, weight=1.0, steps=4, seed=last) for name in ("dpm++2m", "pc")]
    pairs = list(itertools.product(starts, samplings))
    requests = [request_of(sampling, [1, 1], begin=begin) for (begin, _), sampling in pairs]
    runs = run_all(page, describe_model(model, "gaussian"), requests)
    for ((_, begin), sampling), steps in zip(pairs, runs, strict=True):
        assert_same_steps(steps, sample(model, [1, 1], begin=begin, sampling=sampling))


def test_a_distilled_model_from_mixed_noise_as_in_python(page):
    distilled = Distilled(lowest=0.0, highest=2.0, spacing=0.5, steps=(2, 4))
    model = replace(gaussian_model(), distilled=distilled, sampling=replace(distilled.defaults, weight=1.5, seed=5))
    places, facts = ((0.0, 0.0), (0.3, 0.9)), describe_model(model, "gaussian")
    samplings = [model.sampling, replace(model.sampling, steps=2, weight=0.0)]
    for begin, start in (
        (None, PureNoise()),
        ({"kind": "MixedNoise", "seeds": [1, 2, 3, 4], "places": places}, MixedNoise((1, 2, 3, 4), places)),
    ):
        runs = run_all(page, facts, [request_of(sampling, [1, 2], begin=begin) for sampling in samplings])
        for sampling, steps in zip(samplings, runs, strict=True):
            assert_same_steps(steps, sample(model, [1, 2], begin=start, sampling=sampling))
    for wrong, message in (
        ({"steps": 3}, "steps is 3; this distilled model takes 2, 4 steps"),
        ({"weight": 2.5}, "weight is 2.5; this distilled model knows the weights from 0 to 2 in steps of 0.5"),
        ({"weight": 0.2}, "weight is 0.2; this distilled model"),
        ({"sampler": "ddpm"}, 'sampler is "ddpm"; it must be one of ddim'),
    ):
        with pytest.raises(Error, match=message):
            run_all(page, facts, [request_of(model.sampling, [1]) | {"sampling": model.sampling.as_dict() | wrong}])


def test_images_without_a_label_as_in_python(page):
    model = gaussian_model()
    facts = describe_model(model, "gaussian")
    (steps,) = run_all(page, facts, [request_of(Sampling(steps=4), count=2)])
    assert_same_steps(steps, sample(model, count=2, steps=4))
    with pytest.raises(Error, match="labels are missing"):
        run_all(page, facts, [request_of(Sampling(steps=4, weight=1.0))])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"sampler": "ode"}, 'sampler is "ode"; it must be one of ddpm, ddim'),
        ({"schedule": "toString"}, 'schedule is "toString"; it must be one of linear'),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number from 1 to 1000"),
        ({"weight": 1e300}, "network call 1 gave numbers that are not finite"),
    ],
)
def test_a_wrong_setting_is_refused(page, wrong, message):
    facts, right = describe_model(gaussian_model(), "gaussian"), Sampling(steps=2).as_dict()
    with pytest.raises(Error, match=message):
        run_all(page, facts, [{"labels": [0], "sampling": right | wrong}])


def test_the_schedules_as_in_python(page):
    found = page.evaluate("""async () => {
      const { ContinuousSchedule, SCHEDULES, Schedule } = await import("/diffusion.js");
      const schedules = Object.keys(SCHEDULES).map((name) => [name, Schedule.named(name)]);
      return Object.fromEntries([...schedules, ["sde", new ContinuousSchedule()]].map(([name, schedule]) => [name, {
        logSnrs: schedule.logSnrs, range: schedule.range, between: schedule.logSnr(417.3),
        timesteps: [schedule.logSnr(417.3), 99, -99].map((value) => schedule.timestep(value)),
      }]));
    }""")
    assert list(found) == list(TRAINED)
    for name, schedule in TRAINED.items():
        between = schedule.log_snr(417.3).item()
        timesteps = [schedule.timestep(value).item() for value in (between, 99.0, -99.0)]
        expected = [*schedule.log_snrs.tolist(), *schedule.range, between, *timesteps]
        mine = found[name]
        assert [*mine["logSnrs"], *mine["range"], mine["between"], *mine["timesteps"]] == pytest.approx(
            expected, abs=1e-8
        )


def test_the_same_seed_gives_the_same_numbers_as_in_pytorch(page):
    seeds, counts = (0, 1, 3407, 2**31, 2**32 - 1, 2**32 + 5), (784, 3072, 16, 17, 31, 100, 15, 1, 2, 784)
    found = page.evaluate(
        """async ([seeds, counts]) => {
      const { Generator, randn } = await import("/random.js");
      return JSON.stringify(seeds.map((seed) => {
        const generator = new Generator(seed), normal = counts.map((count) => [...randn(count, generator)]);
        return { normal, single: generator.uniform(), double: generator.uniformDouble() };
      }));
    }""",
        [list(seeds), list(counts)],
    )
    for seed, mine in zip(seeds, json.loads(found), strict=True):
        generator = torch.Generator().manual_seed(seed)
        for count, numbers in zip(counts, mine["normal"], strict=True):
            assert_close(numbers, torch.randn(count, generator=generator), 2e-6)
        assert mine["single"] == torch.rand(1, generator=generator).item()
        assert mine["double"] == torch.rand(1, generator=generator, dtype=torch.float64).item()


def test_the_samplers_are_those_of_the_settings(page):
    samplers = page.evaluate("import('/diffusion.js').then((mathematics) => Object.keys(mathematics.SAMPLERS))")
    assert samplers == list(site.SAMPLERS_HERE)
