"""What the page of the static demo computes beside the sampling, compared with the Python code of the app, in Chromium."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import browser  # noqa: F401 a fixture
from conftest import frames, opened
from test_parity import GAUSSIAN, gaussian_model, page  # noqa: F401 a fixture
from torch import nn

from ddpm_demo.data.images import colour_signed, render_grid
from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.forward_process import compare_with_closed_form, compute_correlation
from ddpm_demo.diffusion.mixture import Mixture, forward_paths, reverse_paths, reverse_step
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.generation.zero_shot import classify
from ddpm_demo.models.adapters import ClassAdded
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import film
from ddpm_demo.ui.remarks import note_effects, remark_on
from ddpm_demo.ui.runs import BEST, PRESETS, apply_preset, prepare, unflatten
from ddpm_demo.ui.tabs import small_steps_tab
from ddpm_demo.ui.tabs.generate_tab import read_query
from ddpm_demo.web import site
from ddpm_demo.web.export import describe_model

# Runs the body of an async function with all scripts of mathematics as ``js``, and returns its result as JSON.
RUN = """async ([names, body, data]) => {
  const modules = await Promise.all(names.map((name) => import(`/${name}.js`)));
  const js = Object.assign({}, ...modules), AsyncFunction = (async () => {}).constructor;
  const found = await new AsyncFunction("js", "data", body)(js, data);
  return JSON.stringify(found, (_, value) => ArrayBuffer.isView(value) ? [...value] : value);
}"""
SCRIPTS = ("diffusion", "random", "forward_process", "mixture", "images", "settings", "film")


def compute(page, body, **data):  # noqa: F811
    """The value that a piece of JavaScript returns; ``data`` is what it calls data."""
    return json.loads(page.evaluate(RUN, [list(SCRIPTS), body, data]))


def assert_close(numbers, expected, tolerance):
    """Compare numbers with a tensor of double precision."""
    assert np.abs(np.array(numbers).flatten() - expected.flatten().numpy()).max() < tolerance


def facts_of(model, name="gaussian"):
    """What the build writes about a model."""
    own = {"fixed": site.keep_known(site.find_fixed(model)), "defaults": site.keep_known(site.find_defaults(model))}
    return describe_model(model, name) | own | {"teacher": None}


class Inner(nn.Module):
    """The Gaussian network, called as a network of diffusers."""

    def __init__(self, gaussian):
        super().__init__()
        self.gaussian = gaussian

    def forward(self, x, timestep, label, return_dict):
        return (self.gaussian(x, timestep, label),)


def adapted_model():
    """The Gaussian model in gray, with the adapter that the app expects."""
    model = replace(gaussian_model(), channels=1)
    return replace(model, denoiser=replace(model.denoiser, net=ClassAdded(Inner(model.denoiser.net), 3)))


def instant_model():
    """The Gaussian model as a distilled one."""
    distilled = Distilled(lowest=-1.0, highest=2.0, spacing=0.5, steps=(1, 2))
    return replace(adapted_model(), distilled=distilled, sampling=replace(distilled.defaults, weight=1.0))


@pytest.fixture(scope="module")
def gaussian():
    """The Gaussian model as the app's only checkpoint, and the context of the page's functions."""
    model = adapted_model()
    demo = json.loads(json.dumps(site.describe_demo() | {"checkpoints": ["gaussian"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Catalogue, "record_network", lambda *arguments: None
        )  # a recording keeps the timesteps of its example
        yield Catalogue(model, "gaussian"), {"demo": demo, "models": {"gaussian": facts_of(model)}}


def test_the_other_random_numbers_as_in_pytorch(page):  # noqa: F811
    shares = [0.3, 0.45, 0.25]
    found = compute(
        page,
        """const generator = new js.Generator(5);
        return [js.randperm(37, generator), js.multinomial(data.shares, 60, generator),
          js.randn(50, generator, Float64Array), js.randn(3, generator, Float64Array)];""",
        shares=shares,
    )
    generator, kind = torch.Generator().manual_seed(5), {"dtype": torch.float64}
    assert found[0] == torch.randperm(37, generator=generator).tolist()
    assert found[1] == torch.multinomial(torch.tensor(shares, **kind), 60, True, generator=generator).tolist()
    for numbers in found[2:]:
        assert_close(numbers, torch.randn(len(numbers), generator=generator, **kind), 1e-9)


def test_a_classification_as_in_python(page):  # noqa: F811
    model = gaussian_model()
    image = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = compute(
        page,
        """const readings = [], network = eval(data.network)(js, data.model);
        for await (const reading of js.classify(data.model, network, data.request)) readings.push(reading);
        return readings;""",
        model=facts_of(model),
        network=GAUSSIAN,
        request={"image": image.flatten().tolist(), "draws": 6, "seed": 3},
    )
    for mine, reading in zip(found, classify(model, image, draws=6, seed=3), strict=True):
        assert (mine["draws"], mine["total"]) == (reading.draws, reading.total)
        for name in ("errors", "excess", "spread"):
            assert mine[name] == pytest.approx(getattr(reading, name).tolist(), rel=1e-4, abs=1e-5)


def test_the_forward_process_as_in_python(page):  # noqa: F811
    found = compute(
        page,
        """const schedule = js.Schedule.named("linear");
        return [js.compareWithClosedForm(1, schedule, 40, { seed: 2 }), js.computeCorrelation(1.3, 0.2)];""",
    )
    expected = compare_with_closed_form(1.0, Schedule.named("linear"), 40, seed=2)
    for name in ("middles", "closed", "chained", "expected"):
        assert_close(found[0][name], getattr(expected, name), 1e-3 if name == "chained" else 1e-9)
    assert (found[0]["gap"], found[0]["critical"]) == pytest.approx((expected.gap, expected.critical), abs=1e-7)
    assert found[1] == pytest.approx(compute_correlation(1.3, 0.2))


def test_the_exact_case_as_in_python(page, gaussian):  # noqa: F811
    about = gaussian[1]["demo"]["small_steps"]
    found = compute(
        page,
        """const { mixture, reach } = data.about, schedule = js.Schedule.named("linear");
        return [js.reverseStep(mixture, 0.2, 0.45, reach), js.forwardPaths(mixture, schedule, 12, 20, 4),
          await js.reversePaths(mixture, schedule, 12, 20, { sampler: "euler-maruyama" }, 4),
          await js.reversePaths(mixture, schedule, 12, 20, { sampler: "heun" }, 4)];""",
        about=about,
    )
    step, schedule = reverse_step(Mixture(), 0.2, 0.45, small_steps_tab.REACH), Schedule.named("linear")
    for name in ("positions", "prior", "marginal", "exact", "gaussian"):
        assert_close(found[0][name], getattr(step, name), 1e-9)
    assert found[0]["gap"] == pytest.approx(step.gap)
    paths = [forward_paths(Mixture(), schedule, 12, 20, 4)]
    paths += [reverse_paths(Mixture(), schedule, 12, 20, sampler, 4) for sampler in ("euler-maruyama", "heun")]
    for mine, expected in zip(found[1:], paths, strict=True):
        assert_close(mine, expected, 1e-7)


@pytest.mark.parametrize("count, channels, columns", [(1, 1, 1), (5, 1, 3), (4, 3, 2)])
def test_pictures_as_in_python(page, count, channels, columns):  # noqa: F811
    images = torch.randn(count, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    found = compute(
        page,
        """const grid = (images, channels) => {
          const { width, height, data: pixels } = js.renderGrid(images, channels, 4, data.columns, 1);
          return { width, height, pixels };
        };
        const images = Float32Array.from(data.images);
        return [grid(images, data.channels), grid(js.colourSigned(images, data.channels, 4), 3)];""",
        images=images.flatten().tolist(),
        channels=channels,
        columns=columns,
    )
    for mine, expected in zip(found, (images, colour_signed(images)), strict=True):
        picture = np.asarray(render_grid(expected, columns, gap=1).convert("RGB")).astype(int)
        pixels = np.array(mine["pixels"]).reshape(mine["height"], mine["width"], 4)
        assert np.abs(pixels[..., :3] - picture).max() <= 1 and (pixels[..., 3] == 255).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"class_label": "b", "count": 2, "steps": 5},
        {"class_label": "all", "weight": -1, "sampler": "ddpm", "interval_from": -3.5, "interval_to": 2},
        {"class_label": "a", "weight": 0, "seed": 7, "interval_to": 1.0},
        {"class_label": "b", "place": "1 2 3 4 at 0.3 0.75", "count": 2, "steps": 3},
    ],
)
def test_a_film_as_in_python(page, gaussian, settings):  # noqa: F811
    catalogue, context = gaussian
    found = compute(
        page,
        """const { models } = data.context, network = eval(data.network)(js, models.gaussian);
        async function* ask(task, lane, request) {
          for await (const step of js[task](models.gaussian, network, request)) yield { step, seconds: 0.5 };
        }
        const context = { ...data.context, engine: { ask } };
        return js.finish(js.film(context, js.prepare(context, data.settings), "generate"));""",
        context=context,
        network=GAUSSIAN,
        settings=settings,
    )
    run = prepare(catalogue, settings)
    *_, expected = film(run)
    here = {name: value for name, value in run.settings.items() if name in context["demo"]["defaults"]}
    assert found["settings"] == here and found["link"].startswith(f"?class_label={run.class_label}&sampler=")
    for name in expected.keys() - {"run", "chunks", "settings", "link", "curve"}:
        assert found[name] == expected[name], name
    curve = dict(found["curve"])
    assert all(curve[step] == pytest.approx(value, abs=1e-3) for step, value in expected["curve"])
    for mine, frame in zip(frames(found), frames(expected), strict=True):
        timed = {"computing": "0.50 s"}
        assert mine["numbers"] == frame["numbers"] | timed and mine["step"] == frame["step"]
        for name in frame.keys() - {"numbers", "step"}:
            assert mine[name] == pytest.approx(frame[name], abs=1e-3)
    for panel in expected["panels"]:
        assert_same_pictures(stack(found, panel["key"]), stack(expected, panel["key"]))


def stack(growing, panel):
    """All frames of a panel below each other, as an array; frames without a picture are left out."""
    sprites = [chunk["sprites"][panel] for chunk in growing["chunks"] if panel in chunk["sprites"]]
    pictures = [np.asarray(opened(sprite).convert("RGB")).astype(int) for sprite in sprites]
    height = growing["height"]
    rows = [picture[k : k + height] for picture in pictures for k in range(0, len(picture), height)]
    return [row for row in rows if (row != 128).any()]


def assert_same_pictures(mine, expected):
    assert len(mine) == len(expected) > 0
    assert max(np.abs(a - b).max() for a, b in zip(mine, expected)) <= 1


def test_the_remarks_are_those_of_the_app(page, gaussian):  # noqa: F811
    catalogue, context = gaussian
    catalogue = Catalogue(catalogue.model(), "gaussian")
    catalogue.folders["instant"], catalogue.loaded["instant"] = None, instant_model()
    demo = context["demo"] | {"checkpoints": ["gaussian", "instant"]}
    models = context["models"] | {"instant": facts_of(instant_model(), "instant")}
    chosen = [{"weight": weight} for weight in (-1, 0, 1, 2.5)]
    chosen += [{"weight": weight, "interval_from": -4, "interval_to": 2.5} for weight in (-1, 0, 1)]
    chosen += [{"sampler": name, "steps": steps} for name in site.SAMPLERS_HERE for steps in (20, 100)]
    chosen += [{"place": "1 2 3 4 at 0.3 0.75"}, {"checkpoint": "instant", "steps": 2, "weight": 1.5}]
    found = compute(
        page,
        """const say = (run) => [js.remarkOn(data.demo, run), js.noteEffects(data.demo, run)];
        return data.chosen.map((settings) => say(js.prepare(data, settings)));""",
        chosen=chosen,
        demo=demo,
        models=models,
    )
    full = [site.find_defaults(catalogue.model()) | {"checkpoint": "gaussian"} | settings for settings in chosen]
    expected = [remark_on(catalogue, settings) for settings in full]
    without = "The sampler, the schedule and the interval have no effect on it."
    expected[-1] = expected[-1].split("The sampler, ")[0] + without  # classifier guidance is not on this page
    assert [remark for remark, _ in found] == expected
    assert [notes for _, notes in found] == [site.keep_known(note_effects(catalogue, settings)) for settings in full]


def test_a_link_is_read_as_in_the_app_and_a_wrong_setting_is_refused(page, gaussian):  # noqa: F811
    _, context = gaussian
    query = {"class_label": "7", "steps": "12", "weight": "2.5", "seed": "", "count": "two", "strange": "1"}
    links = compute(
        page, "return js.readQuery(data.demo, new URLSearchParams(data.query));", demo=context["demo"], query=query
    )
    assert links == read_query(query)
    wrong = {
        "class_label": ("x", 'class_label is "x"; it must be one of a, b, c, all'),
        "steps": (2.5, "steps is 2.5; it must be a whole number from 1 to 1000"),
        "weight": ("", 'weight is ""; it must be a number from -100 to 100'),
        "sampler": ("ode", 'sampler is "ode"; it must be one of ddpm, ddim'),
        "count": (9, "count is 9; it must be a whole number from 1 to 8"),
        "interval_to": (-30, "interval_to is -30; it must be a number from -20 to 20"),
        "interval_from": (20, ""),
        "checkpoint": ("other", 'checkpoint is "other"; it must be one of gaussian'),
        "place": (
            "1 2 3 at 0.5 0.5",
            'place is "1 2 3 at 0.5 0.5"; it must be four seeds and a place between them, such as',
        ),
    }
    said = compute(
        page,
        """const say = (settings) => { try { js.prepare(data.context, settings); return ""; } catch (error) { return error.message; } };
        return [...data.wrong.map(say), say({ interval_from: 3, interval_to: 2 })];""",
        context=context,
        wrong=[{name: value} for name, (value, _) in wrong.items()],
    )
    places = [{"place": "1 2 3 9999999999 at 0 1"}, {"place": "1 2 3 4 at 0 1.5"}]
    refused = compute(
        page,
        """const say = (settings) => { try { js.prepare(data.context, settings); } catch (error) { return error.message; } };
        return data.places.map(say);""",
        context=context,
        places=places,
    )
    assert refused[0].startswith("seed is 9999999999; it must be") and refused[1].startswith("place is 1.5; it must be")
    assert said[-1] == "the guidance interval begins at log-SNR 3 and ends at 2: exchange them"
    for message, (_, expected) in zip(said, wrong.values()):
        assert message.startswith(expected) and bool(message) == bool(expected)


def test_presets_and_the_settings_of_a_checkpoint_as_in_python(page):  # noqa: F811
    model = replace(instant_model(), distilled=Distilled(lowest=-1.0, highest=8.0, spacing=0.5))
    model = replace(model, sampling=replace(model.distilled.defaults, weight=1.0))
    catalogue = Catalogue(model, "instant")
    demo = json.loads(json.dumps(site.describe_demo() | {"checkpoints": ["instant"]}))
    context = {"demo": demo, "models": {"instant": facts_of(model, "instant")}}
    here = {**demo["defaults"], "checkpoint": "instant", "steps": 1}
    run, *applied = compute(
        page,
        """const apply = (name) => js.applyPreset(data.context, data.here, name);
        return [js.prepare(data.context, {}), ...[data.context.demo.best, ...Object.keys(data.context.demo.presets)].map(apply)];""",
        context=context,
        here=here,
    )
    assert run["sampling"]["steps"] == prepare(catalogue, {}).sampling.steps == model.sampling.steps
    for name, found in zip([BEST, *PRESETS], applied, strict=True):
        assert found == site.keep_known(apply_preset(model, site.DEFAULTS | here, name))


@pytest.mark.parametrize(
    "settings",
    [
        {"class_label": "c", "count": 3, "weight": 1.5, "interval_from": -2, "sampler": "pc", "corrector_snr": 0.3},
        {"weight": -1, "steps": 5},
        {"class_label": "a", "interval_from": -3, "interval_to": 3, "schedule": "linear"},
    ],
)
def test_the_settings_of_the_page_make_the_run_of_python(page, gaussian, settings):  # noqa: F811
    catalogue, context = gaussian
    found, calls = compute(
        page,
        "const run = js.prepare(data.context, data.settings); return [run, js.countCalls(data.context.demo, run)];",
        context=context,
        settings=settings,
    )
    run = prepare(catalogue, settings)
    assert found["request"]["labels"] == run.labels and found["request"]["checkpoint"] == "gaussian"
    assert found["sampling"] == json.loads(json.dumps(site.keep_known(unflatten(run.settings).as_dict())))
    assert (found["columns"], found["guided"], found["images"]) == (run.columns, run.guided, run.images)
    assert calls * run.images == run.evaluations
