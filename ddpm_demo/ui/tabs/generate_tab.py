"""The Generate tab: a user chooses settings and watches noise become an image."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature

import gradio as gr
from PIL import Image

from ddpm_demo.data.images import render_grid
from ddpm_demo.reports.results import find, read_metrics
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import build_player, film
from ddpm_demo.ui.controls import (
    INFO,
    ROLL,
    Controls,
    build_choices,
    build_controls,
    build_instant,
    build_rare_controls,
    build_seed,
    describe_instant,
    fit_choices,
)
from ddpm_demo.ui.events import AT_ONCE, NETWORK, QUIET, UNCHANGED, add_endpoint, stop_with
from ddpm_demo.ui.live import end_sketch, finish_sketch, forget_user, sketch
from ddpm_demo.ui.newest import answer_newest, end
from ddpm_demo.ui.remarks import note_effects, remark_on
from ddpm_demo.ui.runs import BEST, DEFAULTS, OWN, PRESETS, apply_preset, find_defaults, prepare

FILM = "film"  # the kind of the requests that draw in the player
PRESET_INFO = "settings to start from"
PRESET_DISTILLED = "a distilled model keeps its sampler and schedule, and takes the nearest of its steps"


@dataclass(frozen=True)
class Layout:
    """The components of the tab that have handlers."""

    controls: Controls  # by the name of their setting, in the order of DEFAULTS
    generate: gr.Button
    stop: gr.Button
    live: gr.Checkbox
    instant: gr.Radio
    dice: gr.Button
    preset: gr.Dropdown
    remark: gr.Markdown
    player: gr.HTML

    @property
    def inputs(self) -> list:
        """The controls as inputs of a handler."""
        return list(self.controls.values())

    @property
    def outputs(self) -> list:
        """The components that a run changes."""
        return [self.player, self.generate, self.stop]

    @property
    def noted(self) -> list:
        """The components that show what the settings mean together: the remark, and the controls with a note."""
        return [self.remark, *(self.controls[name] for name in INFO)]

    def read(self, values: tuple) -> dict:
        """Return the settings that the values of the controls mean."""
        return dict(zip(self.controls, values))


def build(demo: gr.Blocks, catalogue: Catalogue, checkpoint: gr.Dropdown) -> Layout:
    """Lay out the tab, attach its handlers, and offer the endpoint ``/generate``."""
    layout = lay_out(catalogue, checkpoint)
    wire_runs(demo, catalogue, layout)
    wire_changes(demo, catalogue, layout)
    offer_endpoint(catalogue)
    return layout


def lay_out(catalogue: Catalogue, checkpoint: gr.Dropdown) -> Layout:
    """Create the components in two areas, controls and view. A phone shows the view above the controls."""
    with gr.Row(elem_classes="layout stage"):
        with gr.Column(elem_classes="pick"):
            controls = {"checkpoint": checkpoint} | build_choices(catalogue)
            instant = build_instant(catalogue)
            controls |= build_controls(catalogue)
            seeds, dice = build_seed()
            with gr.Row(elem_classes="go"):
                generate = gr.Button("Generate", variant="primary", min_width=110)
                stop = gr.Button("Stop", interactive=False, min_width=60)
                live = gr.Checkbox(False, label="Live", min_width=70, elem_classes="live")
            remark = gr.Markdown(remark_on(catalogue, find_defaults(catalogue.model())), elem_classes="remark")
            with gr.Accordion("More settings and presets", open=False):
                preset = gr.Dropdown([BEST, *PRESETS], value=None, label="Preset", info=PRESET_INFO)
                controls |= seeds | build_rare_controls(catalogue)
        with gr.Column(elem_classes="view"):
            player = build_player(elem_classes=["viewer"])
    controls = {name: controls[name] for name in DEFAULTS}
    return Layout(controls, generate, stop, live, instant, dice, preset, remark, player)


def wire_runs(demo: gr.Blocks, catalogue: Catalogue, layout: Layout) -> None:
    """Attach the handlers of Generate, Stop, a change of checkpoint, and the opening of the page."""

    def follow_link(request: gr.Request, *values):
        yield from answer_newest(FILM, request, open_page(catalogue, layout.read(values), request.query_params))

    def stop(request: gr.Request):
        end(FILM, request)
        return reset_buttons()

    run_after(layout.generate.click, catalogue, layout)
    opened = demo.load(
        follow_link, layout.inputs, [*layout.outputs, layout.remark, layout.instant, *layout.inputs], **NETWORK
    )
    noise = [layout.controls["seed"], layout.controls["place"]]
    rolled = layout.dice.click(None, None, noise, js=ROLL, api_visibility="private")
    run_after(rolled.then, catalogue, layout)
    stop_with(layout.stop, opened)
    checkpoint = layout.controls["checkpoint"]
    fitted = [checkpoint, layout.instant, *(layout.controls[name] for name in fit_choices(catalogue, ""))]

    def change_checkpoint(name, chosen_class):
        updates = fit_choices(catalogue, name, chosen_class)
        return [name, gr.update(**describe_instant(catalogue, name, updates["steps"]["value"])), *updates.values()]

    def choose_instant(name, chosen_class, steps, weight):
        teacher, student = catalogue.find_pair(name)
        updates = fit_choices(catalogue, student if steps else teacher, chosen_class)
        if catalogue.model(teacher).sampling.always_guided:  # otherwise the weights of the two mean different things
            updates["weight"]["value"] = catalogue.model(student).distilled.nearest_weight(weight) if steps else weight
        if steps:
            updates["steps"]["value"] = steps
        return [student if steps else teacher, gr.skip(), *updates.values()]

    chosen_class = layout.controls["class_label"]
    changed = checkpoint.input(change_checkpoint, [checkpoint, chosen_class], fitted, **QUIET)
    choice = [checkpoint, chosen_class, layout.instant, layout.controls["weight"]]
    chosen = layout.instant.input(choose_instant, choice, fitted, **QUIET)
    describe_and_run_after(changed, catalogue, layout)
    describe_and_run_after(chosen, catalogue, layout)
    layout.stop.click(stop, None, [layout.generate, layout.stop], **AT_ONCE)


def describe_and_run_after(event, catalogue: Catalogue, layout: Layout) -> None:
    """Describe and draw a run with the settings of the controls after an event of Gradio has changed them."""

    def say(*values):
        settings = layout.read(values)
        return remark_on(catalogue, settings), *update_notes(catalogue, settings)

    event.then(say, layout.inputs, layout.noted, **AT_ONCE)
    run_after(event.then, catalogue, layout)


def run_after(listen: Callable, catalogue: Catalogue, layout: Layout) -> None:
    """Draw a run with the settings of the controls after the event for which ``listen`` attaches a handler."""

    def run(request: gr.Request, *values):
        end_sketch(request.session_hash)
        yield from answer_newest(FILM, request, watch(catalogue, layout.read(values)))

    stop_with(layout.stop, listen(run, layout.inputs, layout.outputs, preprocess=False, **NETWORK))


def wire_changes(demo: gr.Blocks, catalogue: Catalogue, layout: Layout) -> None:
    """Attach the handlers of Live, the presets and the remark.

    Changes that occur during an answer are answered once, with the newest values. The draft bypasses the queue, because
    the queue takes longer than the draft. The rest of the run is queued. Gradio passes the values of a request to
    ``change`` unchecked, so the functions that it calls check them.
    """

    def change(request: gr.Request, live, *values):
        settings = layout.read(values)
        film, remark = sketch(catalogue, live, settings, request.session_hash)
        buttons = gr.skip(), gr.skip()
        if film != gr.skip():
            end(FILM, request)
            buttons = reset_buttons()
        return film, *buttons, remark, *update_notes(catalogue, settings)

    def finish(request: gr.Request, live, *values):
        yield from finish_sketch(catalogue, live, layout.read(values), request.session_hash)

    def change_preset(name, *values):
        settings = layout.read(values)
        model, folder = catalogue.model(settings["checkpoint"]), catalogue.folder(settings["checkpoint"])
        settings = apply_preset(model, settings, name)
        if name == BEST and not (folder and find(read_metrics(folder).get("quality", []), model.sampling)):
            gr.Info(
                "No settings of this checkpoint were adopted. Measure some with  python -m ddpm_demo.evaluation samples; "
                "adopt  instead of  samples  then makes the best of them the default."
            )
        instant = gr.update(**describe_instant(catalogue, settings["checkpoint"], settings["steps"]))
        return gr.update(info=PRESET_DISTILLED if model.distilled else PRESET_INFO), instant, *settings.values()

    redraw = [component.input for name, component in layout.controls.items() if name != "checkpoint"]
    choice, shown = [layout.live, *layout.inputs], [*layout.outputs, *layout.noted]
    gr.on([*redraw, layout.live.input], change, choice, shown, trigger_mode="always_last", **AT_ONCE | UNCHANGED)
    layout.player.draft(finish, choice, layout.player, **NETWORK)
    demo.unload(forget_user)
    changed = [layout.preset, layout.instant, *layout.inputs]
    applied = layout.preset.input(change_preset, [layout.preset, *layout.inputs], changed, **AT_ONCE)
    applied.then(change, choice, shown, **AT_ONCE)


def offer_endpoint(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/generate``. Its parameters are the settings. It returns a picture and all settings."""

    def generate(*values) -> tuple[Image.Image, dict]:
        return draw_picture(catalogue, {name: value for name, value in zip(DEFAULTS, values) if value is not None})

    given = DEFAULTS | dict.fromkeys(OWN)  # None: that of the checkpoint
    # Gradio names the endpoint's parameters after those of the function.
    generate.__signature__ = Signature(
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=value) for name, value in given.items()]
    )
    inputs = [
        (gr.Textbox if isinstance(DEFAULTS[name], str) else gr.Number)(value, label=name, render=False)
        for name, value in given.items()
    ]
    outputs = [gr.Image(format="png", label="image", render=False), gr.JSON(label="settings", render=False)]
    description = (
        "Draws images of a class. Returns the finished picture and all settings of the run. Sampling settings that are "
        "not given are those of the checkpoint; the seed is then 0."
    )
    add_endpoint("generate", generate, inputs, outputs, description)


def update_notes(catalogue: Catalogue, settings: dict) -> list[dict]:
    """Return the updates of the notes beside the controls of INFO."""
    return [gr.update(info=note) for note in note_effects(catalogue, settings).values()]


def reset_buttons() -> tuple[dict, dict]:
    """Enable Generate and disable Stop."""
    return gr.update(interactive=True), gr.update(interactive=False)


def watch(catalogue: Catalogue, settings: dict) -> Iterator[tuple]:
    """Yield ([film so far], Generate button, Stop button) during a run, and finally the buttons in their initial state.

    Gradio sends the difference from the previous answer, and its page applies the difference to that answer in place,
    even before it is displayed. If gr.skip() followed a film directly, this could delete the film. If it follows a list
    with the film, the page replaces the list as a whole, and the film remains.
    """
    busy = gr.update(interactive=False), gr.update(interactive=True)
    unchanged = gr.skip(), gr.skip()  # a frame that arrives after Stop must not change the buttons again
    first = True
    try:
        for growing in film(prepare(catalogue, settings)):
            yield [growing], *(busy if first else unchanged)
            first = False
    except gr.Error:
        yield gr.skip(), *reset_buttons()
        raise
    yield gr.skip(), *reset_buttons()  # a separate answer, because Gradio sends the last answer twice


def open_page(catalogue: Catalogue, settings: dict, query: Mapping[str, str]) -> Iterator[tuple]:
    """Yield the outputs of the opening page: the settings of the link, or the defaults, and their run.

    What the link does not name is the default of its checkpoint.
    """
    settings = {name: value for name, value in settings.items() if name not in OWN}
    try:
        run = prepare(catalogue, settings | read_query(query))
    except gr.Error as error:
        gr.Warning(f"This link cannot be followed: {error.message}")
        run = prepare(catalogue, settings)
    instant, updates = update_controls(catalogue, run.settings)
    page = [remark_on(catalogue, run.settings), instant, *updates.values()]
    start = json.dumps(run.settings)
    if start in catalogue.default_films:
        yield catalogue.default_films[start], *reset_buttons(), *page
        return
    first, whole = True, []
    for growing, *buttons in watch(catalogue, run.settings):
        yield growing, *buttons, *(page if first else [gr.skip()] * len(page))
        first, whole = False, growing if isinstance(growing, list) else whole
    if all(run.settings[name] == value for name, value in find_defaults(run.model).items() if name != "checkpoint"):
        catalogue.default_films[start] = whole  # for the next visitor


def update_controls(catalogue: Catalogue, settings: dict) -> tuple[dict, dict[str, dict]]:
    """Return updates that show complete settings: of Instant, and of the controls by the name of their setting."""
    updates = {name: gr.update(value=value) for name, value in settings.items()}
    for name, update in fit_choices(catalogue, settings["checkpoint"]).items():
        updates[name] |= update | {"value": settings[name]}
    for name, note in note_effects(catalogue, settings).items():
        updates[name] |= {"info": note}
    return gr.update(**describe_instant(catalogue, settings["checkpoint"], settings["steps"])), updates


def read_query(query: Mapping[str, str]) -> dict:
    """Return the settings in a link's query. Other names are ignored; a value that is not a number stays text."""
    settings: dict = {}
    for name, default in DEFAULTS.items():
        if name in query:
            settings[name] = query[name]
            if not isinstance(default, str):
                try:
                    settings[name] = float(query[name])
                except ValueError:
                    continue
    return settings


def draw_picture(catalogue: Catalogue, settings: dict) -> tuple[Image.Image, dict]:
    """Return the picture at the end of a run, and the settings of the run."""
    run = prepare(catalogue, settings)
    *_, step = run.walk()
    image = render_grid(step.x0, run.columns, height=320)
    return image, run.settings | {"guidance_scale": run.sampling.weight + 1}
