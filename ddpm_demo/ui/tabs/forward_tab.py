"""The Forward process tab: the same image at timestep t under four schedules, and what is left of it."""

import random

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fit_image, render_grid, scale_noisy
from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.forward_process import compare_with_closed_form, compute_correlation
from ddpm_demo.diffusion.sampling import LAST_SEED
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.generation.begin import LAST_TIMESTEP, noise_source
from ddpm_demo.ui.catalogue import Catalogue, report_mistakes
from ddpm_demo.ui.components.charts import Axis, draw_lines, fit_axis
from ddpm_demo.ui.components.pad import build_pad, fill_pad, read_pad
from ddpm_demo.ui.components.upload import build_upload
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.events import NEWEST_LAST, add_endpoint
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.runs import as_seed, as_timestep

HINT = """Training does not add noise step by step: it jumps to any t, since
$q(x_t \\mid x_0) = \\mathcal{N}(\\sqrt{\\bar\\alpha_t}\\, x_0,\\ (1 - \\bar\\alpha_t) I)$ is known in closed form. Move t
and see which schedule destroys the image first; then draw your own image."""
MATH = [{"left": "$", "right": "$", "display": False}]
LEFT = (  # what is left of the image, by the correlation of x_t with x_0
    (0.95, "almost nothing is lost"),
    (0.75, "it is still easy to read"),
    (0.45, "the coarse shape is left, the detail is gone"),
    (0.2, "only a trace is left"),
    (0.05, "next to nothing is left"),
    (-1.0, "it is noise: nothing of the image can be found"),
)


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, attach its handlers, and offer the endpoint ``/forward``."""
    gr.Markdown(HINT, elem_classes="hint", latex_delimiters=MATH)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            pad = build_pad(catalogue)
        with gr.Column(scale=5, min_width=320):
            with gr.Row():
                t = gr.Slider(
                    0, LAST_TIMESTEP, 300, step=1, label="Timestep t", info="0: the image, 999: the end", scale=4
                )
                seed = gr.Number(
                    0,
                    precision=0,
                    minimum=0,
                    maximum=LAST_SEED,
                    label="Seed",
                    info="of the noise",
                    min_width=90,
                    scale=1,
                )
            cards = gr.HTML(elem_classes="forward")
    plots = gr.HTML()
    build_comparison(t)

    def redraw(*values):
        return draw_schedules(catalogue, *values)

    settings, outputs = [pad, t, seed, checkpoint], [cards, plots]
    gr.on([pad.input, t.input, seed.input], redraw, settings, outputs, **NEWEST_LAST)
    changed = checkpoint.change(lambda name: fill_pad(catalogue, name), checkpoint, pad, **NEWEST_LAST)
    changed.then(redraw, settings, outputs, **NEWEST_LAST)
    cards.value, plots.value = draw_schedules(catalogue, pad.value, 300, 0, "")
    offer_endpoint(catalogue)


def build_comparison(t: gr.Slider) -> None:
    """Lay out and wire the comparison of the closed form with the chain of single steps."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            gr.Markdown(
                "**One jump, or many steps.** The closed form and the chain of single steps "
                "$x \\leftarrow \\sqrt{1-\\beta}\\,x + \\sqrt\\beta\\,z$ must lead to the same distribution. Here both "
                "are applied 2,000 times to one bright pixel.",
                latex_delimiters=MATH,
            )
            schedule = gr.Radio(list(SCHEDULES), value="cosine", label="Schedule of the chain")
            again = gr.Button("Repeat with new noise", size="sm")
        with gr.Column(scale=5, min_width=320):
            both = gr.HTML(compare_ways("cosine", 300))
    gr.on([t.release, schedule.input, again.click], compare_ways, [schedule, t], both, **NEWEST_LAST)


def offer_endpoint(catalogue: Catalogue) -> None:
    """Offer the endpoint ``/forward``."""

    def forward(image: Image.Image, t: int = 300, schedule: str = "cosine", seed: int = 0) -> tuple[Image.Image, dict]:
        model = catalogue.model()
        with report_mistakes():
            check_one_of("schedule", schedule, SCHEDULES)
            t, seed = as_timestep(t), as_seed(seed)
            if image is None:
                raise UserError("image is missing")
        x0 = fit_image(image, model.channels, model.image_size)
        chosen = Schedule.named(schedule)
        noisy = add_noise(x0, chosen.log_snr(t), draw_noise(x0, seed))
        image = render_grid(scale_noisy(noisy, chosen.log_snr(t))[None], 1, height=320, gap=0)
        return image, describe_timestep(x0, chosen, t)

    inputs = [
        build_upload("image"),
        gr.Number(300, label="t", render=False),
        gr.Textbox("cosine", label="schedule", render=False),
        gr.Number(0, label="seed", render=False),
    ]
    outputs = [gr.Image(format="png", label="noisy", render=False), gr.JSON(label="about", render=False)]
    description = "Returns an image at timestep t of a schedule's forward process, and what is left of it."
    add_endpoint("forward", forward, inputs, outputs, description, queue=None)


def draw_noise(x0: Tensor, seed: int) -> Tensor:
    """Draw Gaussian noise with the shape of an image x0 (C, H, W)."""
    return noise_source([seed], tuple(x0.shape), torch.device("cpu"))()[0]


def describe_timestep(x0: Tensor, schedule: Schedule, t: int) -> dict:
    """Return the numbers of a timestep, and a description of what is left of the image x0 (C, H, W)."""
    log_snr = schedule.log_snr(t).item()
    left = compute_correlation(log_snr, x0.double().var().item() or 1e-6)
    return {
        "alpha_bar": schedule.alpha_bars[t].item(),
        "beta": schedule.betas[t].item(),
        "log_snr": log_snr,
        "correlation": left,
        "left": next(words for least, words in LEFT if left >= least),
    }


def draw_schedules(catalogue: Catalogue, drawing: dict, t, seed, checkpoint: str) -> tuple[str, str]:
    """Draw the image of a pad under the four schedules, and their curves with t marked."""
    with report_mistakes():
        model = catalogue.model(checkpoint)
        t, seed = as_timestep(t), as_seed(seed)
    if not (drawing or {}).get("ink"):
        return "", draw_curves(t)
    x0, _ = read_pad(model, drawing)
    noise = draw_noise(x0, seed)
    cards = []
    for name in SCHEDULES:
        schedule = Schedule.named(name)
        numbers = describe_timestep(x0, schedule, t)
        noisy = scale_noisy(add_noise(x0, schedule.log_snr(t), noise), numbers["log_snr"])
        image = encode_picture(render_grid(noisy[None], 1, gap=0))
        cards.append({"schedule": name, "image": image, **numbers})
    return render("forward.html", cards=cards, t=t), draw_curves(t)


def draw_curves(t: int) -> str:
    """Draw alpha_bar, beta and log-SNR of the four schedules, with t marked."""
    schedules = {name: Schedule.named(name) for name in SCHEDULES}
    ts = list(range(0, LAST_TIMESTEP + 1, 9))
    time = Axis(0, LAST_TIMESTEP, "t")

    def plot(title: str, values: str, y: Axis) -> str:
        series = {name: (ts, getattr(schedule, values)[ts].tolist()) for name, schedule in schedules.items()}
        return draw_lines(title, series, time, y, mark=t)

    charts = [
        plot("ᾱₜ, the share of the image's power", "alpha_bars", Axis(0, 1.18)),
        plot("βₜ, the noise of one step", "betas", fit_axis([1e-5, 3.0], log=True)),
        plot("log-SNR", "log_snrs", Axis(-21, 17)),
    ]
    return render("charts.html", charts=charts)


def compare_ways(name: str, t) -> str:
    """Draw one bright pixel at timestep t, by the closed form and by the chain, as histograms with a sentence."""
    with report_mistakes():
        check_one_of("schedule", name, SCHEDULES)
        t = as_timestep(t)
    found = compare_with_closed_form(1.0, Schedule.named(name), t, seed=random.randrange(LAST_SEED))
    middles = found.middles.tolist()
    series = {
        "closed form": (middles, found.closed.tolist()),
        "chain": (middles, found.chained.tolist()),
        "Gaussian": (middles, found.expected.tolist()),
    }
    highest = max(found.closed.max(), found.chained.max(), found.expected.max()).item()
    x, y = fit_axis(middles, "value of the pixel"), Axis(0, highest * 1.25)
    chart = draw_lines(f"A pixel of value 1 at t = {t}, {name}", series, x, y)
    return render("chain.html", chart=chart, steps=t + 1, gap=found.gap, critical=found.critical)
