"""Live: every change of a setting is drawn at once, by as many steps as this machine can take at once."""

import time
from collections.abc import Iterator

import gradio as gr

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import film
from ddpm_demo.ui.remarks import remark_on
from ddpm_demo.ui.runs import Run, prepare

LIVE_SECONDS, FEWEST_STEPS = 0.09, 3  # of computing from a change to its picture, and the coarsest draft
PACE: dict[tuple, float] = {}  # kind of run -> seconds that a step of it took on this machine
NEWEST: dict[str, list] = {}  # open page -> [the settings that its user chose last, how many steps were drawn of them]


def sketch(catalogue: Catalogue, live: bool, settings: dict, session: str) -> tuple:
    """(film or nothing, remark) at once after a change. With Live on: the run, or a draft of fewer steps if it is slow.

    A draft takes as many steps as this machine took in LIVE_SECONDS the last time; ``finish_sketch`` draws the rest.
    """
    NEWEST[session] = newest = [settings, 0]
    if live is not True:
        return gr.skip(), remark_on(settings)
    run = prepare(catalogue, settings)
    steps, asked = count_affordable_steps(run), run.sampling.steps
    began = time.perf_counter()
    draft = prepare(catalogue, run.settings | {"steps": steps}) if steps < asked else run
    *_, whole = film(draft, still=True)
    PACE[find_kind(run)] = (time.perf_counter() - began) / steps
    newest[1] = steps
    if steps < asked:
        whole |= {"link": "", "source": f"draft of {steps} steps; all {asked} follow"}
    return whole, remark_on(settings)


def finish_sketch(catalogue: Catalogue, live: bool, settings: dict, session: str) -> Iterator:
    """The whole run after a draft, until its user changes a setting; nothing where the sketch was the whole run."""
    yield gr.skip()
    newest = NEWEST.get(session)
    if live is not True or newest is None or newest[0] != settings or newest[1] >= settings["steps"]:
        return
    for growing in film(prepare(catalogue, settings), still=True):
        if NEWEST.get(session) is not newest:
            return
        yield growing


def forget_user(request: gr.Request) -> None:
    """Drop what is kept of a user who left."""
    NEWEST.pop(request.session_hash, None)


def find_kind(run: Run) -> tuple:
    """All that decides how long a step takes."""
    sampling = run.sampling
    calls = SAMPLERS[sampling.sampler].calls
    return run.checkpoint, run.images, sampling.mixes, bool(sampling.classifier_scale), calls


def count_affordable_steps(run: Run) -> int:
    """How many of a run's steps fit into LIVE_SECONDS by what is known of its kind; a few where nothing is known."""
    fitting = int(LIVE_SECONDS / PACE.get(find_kind(run), LIVE_SECONDS))
    return min(run.sampling.steps, max(FEWEST_STEPS, fitting))
