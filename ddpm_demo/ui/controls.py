"""The controls of a run: one component for each setting. The control of a new sampling parameter belongs here."""

import gradio as gr

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.sampling import ALWAYS, LAST_SEED
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.runs import ALL, DEFAULTS, MAX_COUNT, OWN, find_defaults

Controls = dict[str, gr.components.Component]
OFF = 0  # the choice of the model that was not distilled
LAST_ROLLED = 9999  # the highest seed of the dice: short numbers are easy to remember
ROLL = f"() => [Math.floor(Math.random() * {LAST_ROLLED + 1}), '']"  # a seed, and no place in the noise pad
INFO = {  # a few words beside the label of a control
    "classifier_scale": "gradient of a noise-aware classifier; set w = -1 to use it alone",
    "autoguidance": "away from a weaker model of the same data",
    "interval_from": "nothing is guided below this log-SNR",
    "interval_to": "nothing is guided above this log-SNR",
    "variance": "both choices of Ho et al. 2020, section 3.2",
    "corrector_snr": "only for the sampler predictor-corrector",
    "ode_tolerance": "largest error of a step",
    "sampler": "how a step is computed",
    "schedule": "noise level of each step",
}
SPACING = 0.05  # of guidance weights
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


def list_classes(model: Model) -> list:
    """Return the choices of a class picker for a model: each class, and all of them."""
    names = model.class_names
    return [*names, (f"all {len(names)}", ALL)] if names else [("any", ALL)]


def build_checkpoint(catalogue: Catalogue) -> gr.Dropdown:
    """Create the choice of the checkpoint for all tabs, at this place of the layout."""
    names = catalogue.names
    return gr.Dropdown(names, value=names[0], label="Checkpoint", visible=len(names) > 1, elem_id="checkpoint")


def build_choices(catalogue: Catalogue) -> Controls:
    """Create the controls that differ between checkpoints, by name of their setting, at this place of the layout."""
    model = catalogue.model()
    weight = model.sampling.weight
    return {
        "class_label": gr.Radio(list_classes(model), value=ALL, label="Class", elem_classes="classes"),
        "weight": gr.Slider(-1, 8, weight, step=SPACING, label="Guidance weight w", visible=bool(model.label_names)),
    }


def fit_choices(catalogue: Catalogue, name: str, chosen_class: str = ALL) -> dict[str, dict]:
    """Return updates of the controls for the checkpoint ``name``, to its defaults and the chosen class, if it knows it.

    Raises gr.Error for an unknown checkpoint.
    """
    with report_mistakes():
        model = catalogue.model(name)
    defaults = find_defaults(model)
    own: dict[str, dict] = {setting: {"value": defaults[setting]} for setting in OWN}
    shown = {"weight": model.label_names, "classifier_scale": model.noisy_classifier, "autoguidance": model.weak}
    for setting, part in shown.items():
        own[setting] |= {"visible": bool(part)}
    own["weight"] |= {"step": model.distilled.spacing if model.distilled else SPACING}
    for setting in ("steps", "sampler", "schedule"):  # a distilled model has one sampler and one schedule
        own[setting] |= {"interactive": not model.distilled}
    kept = chosen_class if chosen_class in model.class_names else ALL
    own["class_label"] = {"choices": list_classes(model), "value": kept}
    return {setting: gr.update(**update) for setting, update in own.items()}


def build_instant(catalogue: Catalogue) -> gr.Radio:
    """Create the choice between a model and the few steps of the model distilled from it, for the first checkpoint."""
    return gr.Radio(
        **describe_instant(catalogue, "", catalogue.model().sampling.steps), label="Instant", elem_classes="segments"
    )


def describe_instant(catalogue: Catalogue, name: str, steps: int) -> dict:
    """Return the properties of that choice for the checkpoint ``name`` and a number of steps."""
    name = name or catalogue.names[0]
    pair = catalogue.find_pair(name)
    if not pair:
        return {"visible": False, "value": OFF}
    student = catalogue.model(pair[1]).distilled
    return {
        "choices": [("off", OFF), *((f"{count}", count) for count in student.steps)],
        "value": steps if name == pair[1] and steps in student.steps else OFF,
        "visible": True,
        "info": "few steps, by a distilled model",
    }


def build_controls(catalogue: Catalogue) -> Controls:
    """Create the other controls of the first screen, by the name of their setting, at this place of the layout."""
    defaults = find_defaults(catalogue.model())
    return {
        "steps": gr.Slider(1, 1000, defaults["steps"], step=1, label="Steps"),
        "sampler": gr.Dropdown(
            [(row.title, name) for name, row in SAMPLERS.items()],
            value=defaults["sampler"],
            label="Sampler",
            info=INFO["sampler"],
        ),
        "schedule": gr.Radio(
            list(SCHEDULES),
            value=defaults["schedule"],
            label="Noise schedule",
            info=INFO["schedule"],
            elem_classes="segments",
        ),
    }


def build_seed() -> tuple[Controls, gr.Button]:
    """Create the seed with a dice, and the number of images, at this place of the layout."""
    with gr.Row(elem_classes="seed"):
        seed = gr.Number(DEFAULTS["seed"], minimum=0, maximum=LAST_SEED, label="Seed", min_width=70)
        dice = gr.Button("New seed", min_width=44, scale=0, elem_classes="dice")
        count = gr.Number(DEFAULTS["count"], minimum=1, maximum=MAX_COUNT, label="Images of each class", min_width=110)
    return {"seed": seed, "count": count}, dice


def build_rare_controls(catalogue: Catalogue) -> Controls:
    """Create the controls of settings that are seldom changed, by the name of their setting."""
    defaults = find_defaults(catalogue.model())
    return {
        "classifier_scale": gr.Slider(
            0,
            16,
            defaults["classifier_scale"],
            step=0.5,
            label="Classifier guidance s",
            visible=bool(catalogue.model().noisy_classifier),
            info=INFO["classifier_scale"],
        ),
        "autoguidance": gr.Slider(
            0,
            4,
            defaults["autoguidance"],
            step=0.1,
            label="Autoguidance s",
            visible=bool(catalogue.model().weak),
            info=INFO["autoguidance"],
        ),
        "interval_from": gr.Slider(
            *ALWAYS, defaults["interval_from"], step=0.5, label="Guided from log-SNR", info=INFO["interval_from"]
        ),
        "interval_to": gr.Slider(
            *ALWAYS, defaults["interval_to"], step=0.5, label="Guided up to log-SNR", info=INFO["interval_to"]
        ),
        "variance": gr.Radio(
            [("posterior β̃ₜ", VARIANCES[0]), ("forward βₜ", VARIANCES[1])],
            value=defaults["variance"],
            label="Reverse variance",
            info=INFO["variance"],
        ),
        "corrector_snr": gr.Slider(
            0,
            1,
            defaults["corrector_snr"],
            step=0.02,
            label="Corrector's signal-to-noise ratio",
            info=INFO["corrector_snr"],
        ),
        "ode_tolerance": gr.Radio(
            [(f"{value:g}", value) for value in TOLERANCES],
            value=defaults["ode_tolerance"],
            label="Tolerance of Runge-Kutta",
            info=INFO["ode_tolerance"],
        ),
        "place": gr.Textbox(
            defaults["place"], label="Place in the noise pad", info="if not empty, its noise replaces that of the seed"
        ),
    }
