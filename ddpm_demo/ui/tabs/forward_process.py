"""The Forward process tab: the same image under four schedules, and what is left of it at timestep t."""

import random

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import fitted, noisy_panel, picture
from ddpm_demo.diffusion.denoiser import add_noise
from ddpm_demo.diffusion.forward_process import agreement, correlation
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.generation.begin import LAST_TIMESTEP
from ddpm_demo.generation.generate import noise_source
from ddpm_demo.ui.catalogue import Catalogue, in_words
from ddpm_demo.ui.components.charts import Axis, around, lines
from ddpm_demo.ui.components.pad import drawn, pad, sheet
from ddpm_demo.ui.components.player import data_uri
from ddpm_demo.ui.runs import as_seed, as_timestep

HINT = """Training never walks step by step into the noise: it jumps, since
$q(x_t \\mid x_0) = \\mathcal{N}(\\sqrt{\\bar\\alpha_t}\\, x_0,\\ (1 - \\bar\\alpha_t) I)$ is known in closed form. Slide t
and see which schedule drowns the image first; then draw an image of your own."""
LEFT = (  # of the image, by correlation of x_t with x_0
    (0.95, "almost nothing is lost"),
    (0.75, "it is still easy to read"),
    (0.45, "the coarse shape is left, the detail is gone"),
    (0.2, "a trace is left, which a trained eye can find"),
    (0.05, "next to nothing is left"),
    (-1.0, "it is noise: nothing of the image can be found"),
)


def build(catalogue: Catalogue, checkpoint: gr.components.Component) -> None:
    """Lay out the tab, wire it, and offer the endpoint ``/forward``."""
    gr.Markdown(HINT, elem_classes="hint", latex_delimiters=[{"left": "$", "right": "$", "display": False}])
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            paper = pad(catalogue)
        with gr.Column(scale=5, min_width=320):
            with gr.Row():
                t = gr.Slider(
                    0, LAST_TIMESTEP, 300, step=1, label="Timestep t", info="0: the image, 999: the end", scale=4
                )
                seed = gr.Number(
                    0, precision=0, minimum=0, maximum=2**31, label="Seed", info="of the noise", min_width=90, scale=1
                )
            strips = gr.HTML(elem_classes="forward")
    plots = gr.HTML()
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            gr.Markdown(
                "**Jump or walk?** The closed form and the chain of single steps "
                "$x \\leftarrow \\sqrt{1-\\beta}\\,x + \\sqrt\\beta\\,z$ must lead to the same distribution. Here one "
                "bright pixel takes both ways 2,000 times.",
                latex_delimiters=[{"left": "$", "right": "$", "display": False}],
            )
            schedule = gr.Radio(list(SCHEDULES), value="cosine", label="Schedule of the chain")
            again = gr.Button("Walk again", size="sm")
        with gr.Column(scale=5, min_width=320):
            both = gr.HTML()

    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    settings, outputs = [paper, t, seed, checkpoint], [strips, plots]

    def redraw(*values):
        return show(catalogue, *values)

    gr.on([paper.input, t.input, seed.input], redraw, settings, outputs, **quiet)
    gr.on([t.release, schedule.input, again.click], walk_or_jump, [schedule, t], both, **quiet)
    checkpoint.change(lambda name: sheet(catalogue, name), checkpoint, paper, **quiet).then(
        redraw, settings, outputs, **quiet
    )
    strips.value, plots.value = show(catalogue, paper.value, 300, 0, "")
    both.value = walk_or_jump("cosine", 300)
    api(catalogue)


def api(catalogue: Catalogue) -> None:
    """The endpoint ``/forward``."""

    def forward(image: Image.Image, t: int = 300, schedule: str = "cosine", seed: int = 0) -> tuple[Image.Image, dict]:
        model = catalogue.model()
        with in_words():
            check_one_of("schedule", schedule, SCHEDULES)
            t, seed = as_timestep(t), as_seed(seed)
            if image is None:
                raise UserError("image is missing")
        x0 = fitted(image, model.channels, model.image_size)
        walked = Schedule.named(schedule)
        noisy = add_noise(x0, walked.log_snr(t), noise_source([seed], tuple(x0.shape), torch.device("cpu"))()[0])
        return picture(noisy_panel(noisy, walked.log_snr(t))[None], 1, height=320, gap=0), about(x0, walked, t)

    with gr.Row(visible=False):
        inputs = [
            gr.Image(type="pil", label="image"), gr.Number(300, label="t"), gr.Textbox("cosine", label="schedule"),
            gr.Number(0, label="seed"),
        ]  # fmt: skip
        outputs = [gr.Image(format="png", label="noisy"), gr.JSON(label="about")]
        gr.Button().click(
            forward, inputs, outputs, api_name="forward",
            api_description="An image at timestep t of a schedule's forward process, and what is left of it.",
        )  # fmt: skip


def about(x0: Tensor, schedule: Schedule, t: int) -> dict:
    """The numbers of a timestep, and in words what is left of the image."""
    log_snr = schedule.log_snr(t).item()
    left = correlation(log_snr, x0.double().var().item() or 1e-6)
    return {
        "alpha_bar": schedule.alpha_bars[t].item(),
        "beta": schedule.betas[t].item(),
        "log_snr": log_snr,
        "correlation": left,
        "left": next(words for least, words in LEFT if left >= least),
    }


def show(catalogue: Catalogue, paper: dict, t, seed, checkpoint: str) -> tuple[str, str]:
    """The image under the four schedules, and the curves with t marked."""
    with in_words():
        model = catalogue.model(checkpoint)
        t, seed = as_timestep(t), as_seed(seed)
    if not (paper or {}).get("ink"):
        return "", curves(t)
    x0, _ = drawn(model, paper)
    noise = noise_source([seed], tuple(x0.shape), torch.device("cpu"))()[0]
    cards = []
    for name in SCHEDULES:
        schedule = Schedule.named(name)
        facts = about(x0, schedule, t)
        noisy = noisy_panel(add_noise(x0, schedule.log_snr(t), noise), facts["log_snr"])
        cards.append(
            f'<figure data-schedule="{name}"><img alt="x_t under the {name} schedule" '
            f'src="{data_uri(picture(noisy[None], 1, gap=0))}"><figcaption><b>{name}</b><br>'
            f"ᾱₜ = {facts['alpha_bar']:.3g}, log-SNR {facts['log_snr']:+.1f}<br>"
            f"At t = {t}, {facts['left']} (correlation {facts['correlation']:.2f}).</figcaption></figure>"
        )
    return f'<div class="cards">{"".join(cards)}</div>', curves(t)


def curves(t: int) -> str:
    """alpha_bar, beta and log-SNR of the four schedules, with t marked."""
    schedules = {name: Schedule.named(name) for name in SCHEDULES}
    ts = list(range(0, LAST_TIMESTEP + 1, 9))
    time = Axis(0, LAST_TIMESTEP, "t")

    def plot(title: str, values: str, y: Axis) -> str:
        series = {name: (ts, getattr(schedule, values)[ts].tolist()) for name, schedule in schedules.items()}
        return lines(title, series, time, y, mark=t)

    drawn = (
        plot("ᾱₜ, the share of the image's power", "alpha_bars", Axis(0, 1.18)),
        plot("βₜ, the noise of one step", "betas", around([1e-5, 3.0], log=True)),
        plot("log-SNR", "log_snrs", Axis(-21, 17)),
    )
    return f'<div class="charts">{"".join(drawn)}</div>'


def walk_or_jump(name: str, t) -> str:
    """One bright pixel at timestep t, by the closed form and by the chain, as two histograms and a sentence."""
    with in_words():
        check_one_of("schedule", name, SCHEDULES)
        t = as_timestep(t)
    found = agreement(1.0, Schedule.named(name), t, seed=random.randrange(2**31))
    middles = found.middles.tolist()
    series = {
        "closed form": (middles, found.closed.tolist()),
        "chain": (middles, found.chained.tolist()),
        "Gaussian": (middles, found.expected.tolist()),
    }
    highest = max(found.closed.max(), found.chained.max(), found.expected.max()).item()
    chart = lines(
        f"A pixel of value 1 at t = {t}, {name}", series, around(middles, "value of the pixel"), Axis(0, highest * 1.25)
    )
    verdict = "they agree" if found.gap < found.usual else "by chance they differ a little more than usual"
    return (
        f'<div class="charts">{chart}<p class="sentence">{t + 1} single steps and one jump: the two sets of 2,000 values '
        f"are {found.gap:.3f} apart (Kolmogorov-Smirnov). Two sets of the very same distribution stay below "
        f"{found.usual:.3f} in 95 of 100 cases, so {verdict}.</p></div>"
    )
