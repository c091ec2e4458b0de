"""The tab Why small steps?: the exact one-dimensional case, where everything can be seen and nothing is learned."""

from functools import lru_cache

import gradio as gr

from ddpm_demo.diffusion.mixture import Mixture, forward_paths, reverse_paths, reverse_step
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError, check_whole
from ddpm_demo.ui.catalogue import in_words
from ddpm_demo.ui.components.charts import COLOURS, LEFT, RIGHT, WIDTH, Axis, lines, paths
from ddpm_demo.ui.runs import as_int, as_number, as_seed

HINT = """A network that predicts a Gaussian can undo one step of noise only if the true reverse step *is* nearly Gaussian.
Here the data are a density on a line, so the truth is known. Make $\\beta$ small, then large, and drag $z_t$ (in the left
picture too) between two humps: where does a single Gaussian stop being good enough?"""
DATA = Mixture()
REACH = 2.2
PATHS = 60
MATH = [{"left": "$", "right": "$", "display": False}]
# Dragging in the left picture moves z_t; a few times a second is enough, and where it ends always counts.
DRAG = """
let pressed = false, told = 0;
function tell(event) {
  const chart = element.querySelector("svg[data-low]"), box = chart.getBoundingClientRect();
  const low = +chart.dataset.low, high = +chart.dataset.high, left = +chart.dataset.left, right = +chart.dataset.right;
  const share = ((event.clientX - box.left) / box.width * chart.dataset.width - left) / (right - left);
  told = performance.now();
  trigger("drag", { z: Math.min(high, Math.max(low, low + share * (high - low))) });
}
element.addEventListener("pointerdown", (event) => {
  if (!event.target.closest("svg[data-low]")) return;
  pressed = true; event.preventDefault(); tell(event);
});
window.addEventListener("pointermove", (event) => { if (pressed && performance.now() - told > 90) tell(event); });
window.addEventListener("pointerup", (event) => { if (pressed) { pressed = false; tell(event); } });
"""


def build() -> None:
    """Lay out the tab and wire it."""
    gr.Markdown(HINT, elem_classes="hint", latex_delimiters=MATH)
    with gr.Row():
        power = gr.Slider(
            -3, -0.1, -1, step=0.05, label="Size of the step, log₁₀ β", info="-3: as small as DDPM's, -0.3: half noise"
        )
        z = gr.Slider(-REACH, REACH, 0.45, step=0.01, label="zₜ", info="the noisy value whose past we ask for")
    step = gr.HTML(one_step(-1, 0.45), js_on_load=DRAG, elem_classes="drag")
    gr.Markdown(
        "**The same thing as paths.** Forward, the SDE shakes every point until nothing is left of the density. "
        "Backward with the exact score, the reverse SDE shakes its way back, and the probability-flow ODE glides: both "
        "end in the same density, if the steps are small. Lower the number of steps and see which one breaks first.",
        latex_delimiters=MATH,
    )
    with gr.Row():
        steps = gr.Slider(2, 300, 200, step=1, label="Steps")
        seed = gr.Number(0, precision=0, minimum=0, maximum=2**31, label="Seed")
    tracks = gr.HTML(three_ways(200, 0))

    quiet = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "always_last"}
    gr.on([power.input, z.input], one_step, [power, z], step, **quiet)
    step.drag(dragged, power, [step, z], **quiet | {"trigger_mode": "multiple"})
    gr.on([steps.input, seed.input], three_ways, [steps, seed], tracks, **quiet)


def dragged(power: float, event: gr.EventData) -> tuple[str, float]:
    """The picture and the slider after z_t was dragged."""
    z = getattr(event, "z", None)
    return one_step(power, z), round(float(z), 2)


def one_step(power, z) -> str:
    """Density, exact reverse conditional and its Gaussian, for a step of size 10^power at z."""
    with in_words():
        power, z = as_number("log10 beta", power), as_number("z", z)
        if not -6 <= power <= -0.01 or not -REACH <= z <= REACH:
            raise UserError(f"log10 beta is {power:g} and z is {z:g}; they must lie in [-6, -0.01] and [-2.2, 2.2]")
    beta = 10**power
    found = reverse_step(DATA, beta, z, REACH)
    positions = found.positions.tolist()
    x = Axis(-REACH, REACH, "z")
    data = (
        f'data-low="{-REACH}" data-high="{REACH}" data-left="{LEFT}" data-right="{WIDTH - RIGHT}" data-width="{WIDTH}"'
    )
    top = found.prior.max().item() * 1.3
    before = lines(
        "Before and after one step of noise",
        {"q(zₜ₋₁)": (positions, found.prior.tolist()), "q(zₜ)": (positions, found.marginal.tolist())},
        x, Axis(0, top), mark=z, filled=True, data=data,
    )  # fmt: skip
    top = max(found.exact.max(), found.gaussian.max()).item() * 1.3
    after = lines(
        "Where did zₜ come from?",
        {"exact q(zₜ₋₁ | zₜ)": (positions, found.exact.tolist()), "Gaussian": (positions, found.gaussian.tolist())},
        x, Axis(0, top), mark=z, filled=True, colours=(COLOURS[0], COLOURS[2]),
    )  # fmt: skip
    verdict = next(
        words
        for least, words in (
            (0.25, "a Gaussian is plainly wrong here: it puts mass where the truth has none"),
            (0.08, "a Gaussian is only a rough stand-in"),
            (0.02, "a Gaussian is close"),
            (-1, "a Gaussian is as good as exact: this is why a thousand small steps work"),
        )
        if found.gap >= least
    )
    return (
        f'<div class="charts">{before}{after}</div><p class="sentence" data-gap="{found.gap:.4f}">β = {beta:.3g}, '
        f"zₜ = {z:.2f}: {found.gap:.1%} of the probability lies elsewhere than the Gaussian says (total variation). "
        f"So {verdict}.</p>"
    )


@lru_cache(64)
def three_ways(steps, seed) -> str:
    """Paths of the forward SDE, the reverse SDE and the probability-flow ODE of the mixture."""
    with in_words():
        check_whole("steps", steps := as_int("steps", steps), 1, 1000)
        seed = as_seed(seed)
    schedule = Schedule.named("linear")
    ways = (
        ("Forward SDE", forward_paths(DATA, schedule, steps, PATHS, seed), "image → noise", 0),
        ("Reverse SDE (Euler-Maruyama)", reverse_paths(DATA, schedule, steps, PATHS, "euler-maruyama", seed), "noise → image", -1),
        ("Probability-flow ODE (Heun)", reverse_paths(DATA, schedule, steps, PATHS, "heun", seed), "noise → image", -1),
    )  # fmt: skip
    drawn = []
    for title, tracks, label, clean in ways:
        ends = [
            min(range(len(DATA.centres)), key=lambda k: abs(DATA.centres[k] - end)) for end in tracks[clean].tolist()
        ]
        colours = [COLOURS[k % len(COLOURS)] for k in ends]
        thin = tracks[:: max(1, len(tracks) // 150)]
        drawn.append(paths(title, thin.T.tolist(), Axis(0, steps, label), Axis(-3, 3), colours))
    return f'<div class="charts">{"".join(drawn)}</div>'
