"""The controls of a run: one component for each setting, in the order in which the page shows them."""

import gradio as gr

from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES
from ddpm_demo.diffusion.sampling import ALWAYS
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.runs import ALL, DEFAULTS, MAX_COUNT


def class_choices(model: Model) -> list:
    """What a class picker offers for a model."""
    names = model.class_names
    return [*names, (f"all {len(names)}", ALL)] if names else [("any", ALL)]


def build_controls() -> dict[str, gr.components.Component]:
    """The controls below the class picker and the weight, by the name of their setting; call it where they belong."""
    made: dict[str, gr.components.Component] = {}
    made["steps"] = gr.Slider(1, 1000, DEFAULTS["steps"], step=1, label="Steps", info="how often the network is asked")
    made["sampler"] = gr.Dropdown(
        [(row.title, name) for name, row in SAMPLERS.items()], value=DEFAULTS["sampler"], label="Sampler",
        info="how each step is taken",
    )  # fmt: skip
    made["schedule"] = gr.Radio(
        list(SCHEDULES), value=DEFAULTS["schedule"], label="Noise schedule", info="where the steps are spent"
    )
    with gr.Row():
        made["seed"] = gr.Number(
            DEFAULTS["seed"], precision=0, minimum=0, maximum=2**31, label="Seed", info="the noise", min_width=110
        )
        made["count"] = gr.Slider(
            1, MAX_COUNT, DEFAULTS["count"], step=1, label="Images", info="of each class", min_width=150
        )
    with gr.Accordion("More: guidance interval, reverse variance, corrector, tolerance", open=False):
        made["interval_from"] = gr.Slider(
            *ALWAYS,
            DEFAULTS["interval_from"],
            step=0.5,
            label="Guide from log-SNR",
            info="noisier than this, no guidance",
        )
        made["interval_to"] = gr.Slider(
            *ALWAYS, DEFAULTS["interval_to"], step=0.5, label="... to log-SNR", info="cleaner than this, no guidance"
        )
        made["variance"] = gr.Radio(
            [("posterior β̃ₜ", VARIANCES[0]), ("forward βₜ", VARIANCES[1])], value=DEFAULTS["variance"],
            label="Reverse variance of DDPM", info="both choices of Ho et al. 2020, section 3.2",
        )  # fmt: skip
        made["corrector_snr"] = gr.Slider(
            0, 1, DEFAULTS["corrector_snr"], step=0.02, label="Corrector's signal-to-noise ratio",
            info="of predictor-corrector",
        )  # fmt: skip
        made["ode_tolerance"] = gr.Radio(
            [(f"{value:g}", value) for value in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)], value=DEFAULTS["ode_tolerance"],
            label="Tolerance of Runge-Kutta", info="the error that a stride may make",
        )  # fmt: skip
    return made
