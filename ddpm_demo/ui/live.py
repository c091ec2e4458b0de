"""Live mode: every change of a setting is drawn at once, with as many steps as this machine can compute in time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import film, new_name
from ddpm_demo.ui.newest import Replaced
from ddpm_demo.ui.remarks import remark_on
from ddpm_demo.ui.runs import Run, prepare
from ddpm_demo.ui.turns import Job

LIVE_SECONDS, FEWEST_STEPS = 0.09, 3  # time to compute a draft, and its smallest number of steps
PACE: dict[tuple, float] = {}  # kind of run -> seconds per step on this machine
MOST_PAGES = 50  # with Live on; a page beyond them takes the place of the one that was not used for the longest time
# Network evaluations of a draft, at most, because a draft bypasses the queue. FEWEST_STEPS of 80 guided images need 480.
DRAFT_BUDGET = 2000


@dataclass(eq=False)
class Newest:
    """The newest settings of a page on which Live is on, and the number of steps that were drawn with them."""

    settings: dict
    drawn: int = 0


NEWEST: dict[int, Newest] = {}  # by the number of a page


def sketch(catalogue: Catalogue, live: bool, settings: dict, session: str) -> tuple:
    """Return (film, remark) after a change. If Live is on, the film is the run, or a draft of a slow run.

    There is no film if Live is off, or if a newer change or a run has replaced this one.

    A draft has as many steps as fit into LIVE_SECONDS at the pace of the last run of this kind. The player then asks for the
    whole run, which ``finish_sketch`` draws. The draft of an adaptive sampler has no picture, because its cost does not
    depend on the number of steps.
    """
    end_sketch(session)
    remark = remark_on(catalogue, settings)
    if live is not True:
        return gr.skip(), remark
    run = prepare(catalogue, settings)
    newest = Newest(run.settings)  # not those of the request, which may hold more than a run uses
    remember(session, newest)
    if SAMPLERS[run.sampling.sampler].adaptive:
        return {"run": new_name(), "chunks": [], "draft": True}, remark
    steps, asked = count_affordable_steps(run), run.sampling.steps
    began = time.perf_counter()
    draft = prepare(catalogue, run.settings | {"steps": steps}) if steps < asked else run
    try:
        *_, whole = film(draft, still=True, job=Job(lambda: NEWEST.get(hash(session)) is newest, DRAFT_BUDGET))
    except gr.Error:
        if NEWEST.get(hash(session)) is newest:
            raise
        return gr.skip(), remark  # the visitor has changed something else, or started a run
    PACE[find_kind(run)] = (time.perf_counter() - began) / steps
    newest.drawn = steps
    if steps < asked:
        whole |= {"draft": True, "link": "", "source": f"draft of {steps} steps; all {asked} follow"}
    return whole, remark


def finish_sketch(catalogue: Catalogue, live: bool, settings: dict, session: str) -> Iterator:
    """Yield the whole run after a draft, until the user changes a setting. If the sketch was the whole run, yield no film."""
    yield gr.skip()
    newest = NEWEST.get(hash(session))
    if live is not True or newest is None:
        return
    run = prepare(catalogue, settings)
    if newest.settings != run.settings or newest.drawn >= run.sampling.steps:
        return
    for growing in film(run, still=True):
        if NEWEST.get(hash(session)) is not newest:
            raise Replaced
        yield growing


def remember(session: str, newest: Newest) -> None:
    """Keep the newest settings of a page. Its session is text of any length that the client chose, so its hash is used."""
    NEWEST[hash(session)] = newest
    while len(NEWEST) > MOST_PAGES:
        NEWEST.pop(next(iter(NEWEST)), None)


def end_sketch(session: str) -> None:
    """Let the rest of a page's last sketch end."""
    NEWEST.pop(hash(session), None)


def forget_user(request: gr.Request) -> None:
    """Delete the state of a user who left."""
    end_sketch(request.session_hash)


def find_kind(run: Run) -> tuple:
    """Return everything on which the time of a step depends."""
    sampling = run.sampling
    calls = SAMPLERS[sampling.sampler].calls
    return (
        run.checkpoint,
        run.images,
        sampling.mixes,
        bool(sampling.classifier_scale),
        bool(sampling.autoguidance),
        calls,
    )


def count_affordable_steps(run: Run) -> int:
    """Return how many steps of a run fit into LIVE_SECONDS at the measured pace, at least FEWEST_STEPS.

    A distilled model is fast enough for all of its steps, and takes no other number of them.
    """
    if run.model.distilled:
        return run.sampling.steps
    fitting = int(LIVE_SECONDS / PACE.get(find_kind(run), LIVE_SECONDS))
    return min(run.sampling.steps, max(FEWEST_STEPS, fitting))
