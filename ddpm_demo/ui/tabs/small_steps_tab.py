"""The tab "Why small steps?": a one-dimensional diffusion process whose exact densities are known."""

from functools import lru_cache
from pathlib import Path

import gradio as gr

from ddpm_demo.diffusion.mixture import Mixture, Reverse, forward_paths, reverse_paths, reverse_step
from ddpm_demo.diffusion.sampling import LAST_SEED
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError, check_whole
from ddpm_demo.ui.catalogue import report_mistakes
from ddpm_demo.ui.components import charts
from ddpm_demo.ui.components.charts import COLOURS, Axis, Style, draw_lines, draw_paths
from ddpm_demo.ui.events import NEWEST_LAST
from ddpm_demo.ui.rendering import render
from ddpm_demo.ui.runs import as_int, as_number, as_seed

HINT = """A network that predicts a Gaussian can reverse a step of noise only if the true reverse step *is* nearly
Gaussian. Here the data are one-dimensional, so the true step is known. Make $\\beta$ small, then large, and drag $z_t$
(in the left picture too) between two peaks: when does a single Gaussian stop being accurate?"""
PATHS_HINT = """**The same process as paths.** Forward, the SDE adds noise to every point until the density is Gaussian.
Backward, with the exact score, the reverse SDE is random and the probability-flow ODE is deterministic. Both end in the
same density if the steps are small. Lower the number of steps: which one fails first?"""
DATA = Mixture()
REACH = 2.2
PATHS = 60
MATH = [{"left": "$", "right": "$", "display": False}]
DRAG = Path(charts.__file__).with_name("drag.js")
VERDICTS = (  # by the total variation distance between the exact density and the Gaussian
    (0.25, "a Gaussian is plainly wrong here: it gives weight to values that hardly occur"),
    (0.08, "a Gaussian is only a rough approximation"),
    (0.02, "a Gaussian is a good approximation"),
    (-1, "a Gaussian is as good as exact: this is why a thousand small steps work"),
)


def build() -> None:
    """Lay out the tab and attach its handlers."""
    gr.Markdown(HINT, elem_classes="hint", latex_delimiters=MATH)
    with gr.Row():
        power = gr.Slider(
            -3, -0.1, -1, step=0.05, label="Size of the step, log₁₀ β", info="-3: as small as DDPM's, -0.3: half noise"
        )
        z = gr.Slider(-REACH, REACH, 0.45, step=0.01, label="zₜ", info="the noisy value to reverse")
    step = gr.HTML(draw_step(-1, 0.45), js_on_load=DRAG.read_text(), elem_classes="drag")
    gr.Markdown(PATHS_HINT, latex_delimiters=MATH)
    with gr.Row():
        steps = gr.Slider(2, 300, 200, step=1, label="Steps")
        seed = gr.Number(0, precision=0, minimum=0, maximum=LAST_SEED, label="Seed")
    tracks = gr.HTML(draw_ways(200, 0))

    gr.on([power.input, z.input], draw_step, [power, z], step, **NEWEST_LAST)
    step.drag(move_point, power, [step, z], **NEWEST_LAST | {"trigger_mode": "multiple"})
    gr.on([steps.input, seed.input], draw_ways, [steps, seed], tracks, **NEWEST_LAST)


def move_point(power: float, event: gr.EventData) -> tuple[str, float]:
    """Return the picture and the value of the slider after z_t was dragged."""
    z = getattr(event, "z", None)
    return draw_step(power, z), round(float(z), 2)


def draw_step(power, z) -> str:
    """Draw the exact reverse step of size 10^power at z, and its Gaussian. Raises gr.Error for a value out of range."""
    with report_mistakes():
        power, z = as_number("log10 beta", power), as_number("z", z)
        if not -6 <= power <= -0.01 or not -REACH <= z <= REACH:
            raise UserError(f"log10 beta is {power:g} and z is {z:g}; they must lie in [-6, -0.01] and [-2.2, 2.2]")
    beta = 10**power
    found = reverse_step(DATA, beta, z, REACH)
    verdict = next(words for least, words in VERDICTS if found.gap >= least)
    return render(
        "step.html",
        charts=[draw_before(found, z), draw_after(found, z)],
        beta=beta,
        z=z,
        gap=found.gap,
        verdict=verdict,
    )


def draw_before(found: Reverse, z: float) -> str:
    """Draw the density before and after one step of noise."""
    positions = found.positions.tolist()
    series = {"q(zₜ₋₁)": (positions, found.prior.tolist()), "q(zₜ)": (positions, found.marginal.tolist())}
    place = {"low": -REACH, "high": REACH, "left": charts.LEFT, "right": charts.END, "width": charts.WIDTH}
    style = Style(filled=True, attributes={f"data-{name}": value for name, value in place.items()})
    y = Axis(0, found.prior.max().item() * 1.3)
    return draw_lines("Before and after one step of noise", series, Axis(-REACH, REACH, "z"), y, z, style)


def draw_after(found: Reverse, z: float) -> str:
    """Draw the exact density of z_{t-1} given z_t, and the Gaussian of the same mean and variance."""
    positions = found.positions.tolist()
    series = {
        "exact q(zₜ₋₁ | zₜ)": (positions, found.exact.tolist()),
        "Gaussian": (positions, found.gaussian.tolist()),
    }
    style = Style(filled=True, colours=(COLOURS[0], COLOURS[2]))
    y = Axis(0, max(found.exact.max(), found.gaussian.max()).item() * 1.3)
    return draw_lines("Where did zₜ come from?", series, Axis(-REACH, REACH, "z"), y, z, style)


@lru_cache(64)
def draw_ways(steps, seed) -> str:
    """Draw paths of the forward SDE, the reverse SDE and the probability-flow ODE of the mixture."""
    with report_mistakes():
        check_whole("steps", steps := as_int("steps", steps), 1, 1000)
        seed = as_seed(seed)
    schedule = Schedule.named("linear")
    forward = forward_paths(DATA, schedule, steps, PATHS, seed)
    sde = reverse_paths(DATA, schedule, steps, PATHS, "euler-maruyama", seed)
    ode = reverse_paths(DATA, schedule, steps, PATHS, "heun", seed)
    drawn = []
    for title, tracks, label, clean in (
        ("Forward SDE", forward, "image → noise", 0),
        ("Reverse SDE (Euler-Maruyama)", sde, "noise → image", -1),
        ("Probability-flow ODE (Heun)", ode, "noise → image", -1),
    ):
        ends = [
            min(range(len(DATA.centres)), key=lambda k: abs(DATA.centres[k] - end)) for end in tracks[clean].tolist()
        ]
        colours = [COLOURS[k % len(COLOURS)] for k in ends]
        thin = tracks[:: max(1, len(tracks) // 150)]
        drawn.append(draw_paths(title, thin.T.tolist(), Axis(0, steps, label), Axis(-3, 3), colours))
    return render("charts.html", charts=drawn)
