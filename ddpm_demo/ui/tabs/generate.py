"""The Generate tab: choose, press Generate or go Live, and watch noise become an image."""

import json
import time
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature

import gradio as gr
from PIL import Image

from ddpm_demo.data.images import picture
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.errors import UserError
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.player import film, player
from ddpm_demo.ui.controls import build_controls, class_choices
from ddpm_demo.ui.runs import ALL, DEFAULTS, PRESETS, Run, as_number, columns_for, is_narrowed, prepare

PICKED = ("class_label", "weight", "classifier_scale")  # controls that differ between checkpoints
LIVE_SECONDS, LEAST_STEPS = 0.09, 3  # of computing from a change to its picture, and the coarsest draft
PACE: dict[tuple, float] = {}  # seconds a step took, by kind of run, on this machine
NEWEST: dict[str, list] = {}  # by open page: what its user chose last, and how many steps were drawn of it
HINT = """Pick a class and press **Generate**, then drag the bar under the picture back to see how it came about.
Next, switch **Live** on, choose one class, and move the guidance weight."""


def build(demo: gr.Blocks, catalogue: Catalogue) -> dict[str, gr.components.Component]:
    """Lay out the tab, wire it, and offer the same as the API endpoint ``/generate``. Returns its controls by name."""
    model = catalogue.model()
    made: dict[str, gr.components.Component] = {}
    with gr.Row(elem_classes="layout"):  # three areas, which a phone stacks in this order
        with gr.Column(elem_classes="pick"):
            gr.Markdown(HINT, elem_classes="hint")
            made["checkpoint"] = gr.Dropdown(
                catalogue.names, value=catalogue.names[0], label="Checkpoint", visible=len(catalogue.names) > 1
            )
            made["class_label"] = gr.Radio(class_choices(model), value=ALL, label="Class", elem_classes="classes")
            made["weight"] = gr.Slider(
                -1, 8, DEFAULTS["weight"], step=0.1, label="Guidance weight w", visible=bool(model.label_names)
            )
            made["classifier_scale"] = gr.Slider(
                0, 16, DEFAULTS["classifier_scale"], step=0.5, label="Classifier guidance s", visible=bool(model.noisy_classifier),
                info="by the gradient of a classifier of noisy images; alone at w = -1",
            )  # fmt: skip
            with gr.Row():
                go = gr.Button("Generate", variant="primary", min_width=110)
                stop = gr.Button("Stop", interactive=False, min_width=80)
                live = gr.Checkbox(False, label="Live", info="redraw as I choose", min_width=110)
            remark = gr.Markdown(remarks(DEFAULTS), elem_classes="remark")
        with gr.Column(elem_classes="view"):
            view = player(elem_classes=["viewer"])
        with gr.Column(elem_classes="tune"):
            preset = gr.Dropdown(list(PRESETS), value=None, label="Preset", info="a good place to start from")
            made |= build_controls()
    made = {name: made[name] for name in DEFAULTS}
    inputs = list(made.values())
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    network = quiet | {"concurrency_id": "network"}

    def run(*values):
        yield from watch(catalogue, dict(zip(made, values)))

    def open_page(request: gr.Request, *values):
        yield from opening(catalogue, dict(zip(made, values)), request.query_params)

    def changed(request: gr.Request, live, *values):
        return sketch(catalogue, live, dict(zip(made, values)), request.session_hash)

    def rest(request: gr.Request, live, *values):
        yield from completed(catalogue, live, dict(zip(made, values)), request.session_hash)

    started = go.click(run, inputs, [view, go, stop], **network)
    opened = demo.load(open_page, inputs, [view, go, stop, remark, *inputs], **network)
    stop.click(buttons_at_rest, None, [go, stop], cancels=[started, opened], queue=False, api_visibility="private")

    # Live, and the remark. What comes while an answer is under way is asked once, with the newest values. Not queued,
    # since the queue takes longer than a draft; what follows a draft is.
    redraw = [component.input for name, component in made.items() if name != "checkpoint"]  # which has its own, below
    choice, now = [live, *inputs], quiet | {"queue": False}
    sketched = gr.on([*redraw, live.input], changed, choice, [view, remark], trigger_mode="always_last", **now)
    sketched.success(rest, choice, view, **network)
    demo.unload(forget)
    preset.input(
        lambda name, *values: [*(DEFAULTS | dict(zip(made, values)) | PRESETS.get(name, {})).values()],
        [preset, *inputs],
        inputs,
        **now,
    ).then(changed, choice, [view, remark], **now).success(rest, choice, view, **network)
    made["checkpoint"].input(
        lambda name: class_picker(catalogue, name), made["checkpoint"], [made[name] for name in PICKED], **quiet
    ).then(run, inputs, [view, go, stop], **network)
    api(catalogue)
    return made


def api(catalogue: Catalogue) -> None:
    """The endpoint ``/generate``: the settings as named parameters, a picture and the settings in full as answer."""

    def generate(*values) -> tuple[Image.Image, dict]:
        return finished(catalogue, dict(zip(DEFAULTS, values)))

    # Gradio names the endpoint's parameters after those of the function.
    generate.__signature__ = Signature(
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=value) for name, value in DEFAULTS.items()]
    )
    # Plain fields of their own, since the tab's controls would refuse a wrong value in words of their own.
    with gr.Row(visible=False):
        fields = [
            (gr.Textbox if isinstance(value, str) else gr.Number)(value, label=name) for name, value in DEFAULTS.items()
        ]
        outputs = [gr.Image(format="png", label="image"), gr.JSON(label="settings")]
        gr.Button().click(
            generate, fields, outputs, api_name="generate", concurrency_id="network",
            api_description="Draw images of a class: the finished picture, and the settings it was drawn with.",
        )  # fmt: skip


def buttons_at_rest() -> tuple[dict, dict]:
    """Generate ready, Stop idle."""
    return gr.update(interactive=True), gr.update(interactive=False)


def watch(catalogue: Catalogue, settings: dict) -> Iterator[tuple]:
    """A run as ([film so far], Generate button, Stop button), and the buttons at rest.

    Gradio sends how an answer differs from the one before, and its page edits that one in place, shown or not: a film
    that became gr.skip() could vanish before it is seen. A list that becomes one is replaced, and stays.
    """
    run = prepare(catalogue, settings)
    busy = gr.update(interactive=False), gr.update(interactive=True)
    unchanged = gr.skip(), gr.skip()  # a frame that is under way when Stop is pressed must not undo its buttons
    first = True
    for growing in film(run.walk(), columns_for(run.images), run.settings, run.curve):
        yield [growing], *(busy if first else unchanged)
        first = False
    yield gr.skip(), *buttons_at_rest()  # on its own, since Gradio sends the last answer twice


def opening(catalogue: Catalogue, settings: dict, query: Mapping[str, str]) -> Iterator[tuple]:
    """The page as it opens: the state that a link describes, or the defaults, and the run that belongs to it."""
    told = from_query(query)
    try:
        run = prepare(catalogue, settings | told)
    except gr.Error as error:
        gr.Warning(f"This link cannot be followed: {error.message}")
        run = prepare(catalogue, settings)
    picker = class_picker(catalogue, run.settings["checkpoint"])
    values = [gr.update(value=value) for value in run.settings.values()]
    for name, update in zip(PICKED, picker):
        values[list(DEFAULTS).index(name)] = update | {"value": run.settings[name]}
    start = json.dumps(run.settings)
    if start in catalogue.opened:
        yield catalogue.opened[start], *buttons_at_rest(), remarks(run.settings), *values
        return
    first, whole = True, []
    for growing, *buttons in watch(catalogue, run.settings):
        rest = [remarks(run.settings), *values] if first else [gr.skip()] * (1 + len(values))
        yield growing, *buttons, *rest
        first, whole = False, growing if isinstance(growing, list) else whole
    if all(run.settings[name] == value for name, value in DEFAULTS.items() if name != "checkpoint"):
        catalogue.opened[start] = whole  # the next visitor finds it ready


def from_query(query: Mapping[str, str]) -> dict:
    """The settings in a link's query; what is no setting is passed over, what is no number stays text."""
    told = {}
    for name, default in DEFAULTS.items():
        if name in query:
            told[name] = query[name]
            if not isinstance(default, str):
                try:
                    told[name] = float(query[name])
                except ValueError:
                    continue
    return told


def class_picker(catalogue: Catalogue, name: str) -> tuple[dict, ...]:
    """What is PICKED, as it fits a checkpoint."""
    with in_words():
        model = catalogue.model(name)
    free, classified = bool(model.label_names), bool(model.noisy_classifier)
    return gr.update(choices=class_choices(model), value=ALL), gr.update(visible=free), gr.update(visible=classified)


def forget(request: gr.Request) -> None:
    """Nothing is kept of a user who left."""
    NEWEST.pop(request.session_hash, None)


def sketch(catalogue: Catalogue, live: bool, settings: dict, session: str) -> tuple:
    """(film or nothing, remark) at once after a change. With Live on: the run, or a draft of fewer steps if it is slow.

    A draft takes as many steps as this machine did in LIVE_SECONDS the last time; ``completed`` brings the rest.
    """
    NEWEST[session] = mine = [settings, 0]
    if live is not True:
        return gr.skip(), remarks(settings)
    run = prepare(catalogue, settings)
    steps, asked = affordable(run), run.settings["steps"]
    began = time.perf_counter()
    draft = prepare(catalogue, run.settings | {"steps": steps}) if steps < asked else run
    *_, whole = film(draft.walk(), columns_for(draft.images), draft.used, draft.curve, still=True)
    PACE[kind(run)] = (time.perf_counter() - began) / steps
    mine[1] = steps
    if steps < asked:
        whole |= {"link": "", "source": f"draft of {steps} steps; all {asked} follow"}
    return whole, remarks(settings)


def completed(catalogue: Catalogue, live: bool, settings: dict, session: str) -> Iterator:
    """The exact run after a draft, until its user chooses anew; nothing where the sketch was exact."""
    yield gr.skip()
    mine = NEWEST.get(session)
    if live is not True or mine is None or mine[0] != settings or mine[1] >= settings["steps"]:
        return
    run = prepare(catalogue, settings)
    for growing in film(run.walk(), columns_for(run.images), run.settings, run.curve, still=True):
        if NEWEST.get(session) is not mine:
            return
        yield growing


def kind(run: Run) -> tuple:
    """What decides how long a step takes."""
    sampling = run.sampling
    calls = SAMPLERS[sampling.sampler].calls
    return run.checkpoint, run.images, sampling.mixes, bool(sampling.classifier_scale), calls


def affordable(run: Run) -> int:
    """How many of a run's steps fit into LIVE_SECONDS, as far as we know; a few, as long as we do not."""
    fitting = int(LIVE_SECONDS / PACE.get(kind(run), LIVE_SECONDS))
    return min(run.settings["steps"], max(LEAST_STEPS, fitting))


def finished(catalogue: Catalogue, settings: dict) -> tuple[Image.Image, dict]:
    """The picture at the end of a run, without the way there, and its settings."""
    run = prepare(catalogue, settings)
    *_, step = run.walk()
    shown = picture(step.x0, columns_for(run.images), height=320)
    return shown, run.settings | {"guidance_scale": run.settings["weight"] + 1}


def remarks(settings: dict) -> str:
    """What the settings mean together: both names of the weight, and which of them have no effect."""
    try:
        weight = as_number("weight", settings["weight"])
        low, high = (as_number(name, settings[name]) for name in ("interval_from", "interval_to"))
    except UserError as error:
        return str(error)
    method = SAMPLERS.get(settings["sampler"])
    ignored = ", the network ignores the class" if settings["classifier_scale"] else ", the class is ignored"
    meaning = {-1: ignored, 0: ", the class without guidance"}.get(weight, "")
    said = [f"w = {weight:g}, called guidance_scale {weight + 1:g} in diffusers{meaning}."]
    narrowed = is_narrowed(settings)
    if low > high:
        said.append("The guidance interval ends before it begins.")
    elif narrowed and weight in (0, -1) and not settings["classifier_scale"]:
        said.append("The guidance interval has no effect at this weight.")
    elif narrowed:
        said.append(f"Guided only where the log-SNR is between {low:g} and {high:g}.")
    if settings["variance"] != DEFAULTS["variance"] and method and "variance" not in method.uses:
        said.append("The reverse variance matters to DDPM and stochastic DPM-Solver++ only.")
    if method and method.calls == 2:
        said.append("This sampler asks the network twice a step.")
    if method and "ode_tolerance" in method.uses:
        said.append("It takes strides of its own, to the tolerance chosen below; the steps are where it is watched.")
    if method and method.many_steps and (settings["steps"] or 0) < 50:
        said.append("With so few steps this sampler stays noisy: try 100 or more.")
    return " ".join(said)
