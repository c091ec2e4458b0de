"""Turns: the computations of several users take turns network call by network call, each with a budget.

Everything that a request computes is computed in its turn, because two computations at once would compete for the same
few cores. A turn has one call of the network: before the next call, a request passes the turn on to the request that
waits longest. At each call it also ends if its client has left, if it was stopped, or if its budget is used up.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

import gradio as gr
import torch
from gradio.context import LocalContext
from torch import Tensor, nn

from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.ui.newest import was_replaced

T = TypeVar("T")
# Network evaluations (images x calls) of a request. 1000 steps of the costliest sampler for ten guided images need these.
BUDGET = 40_000
ADVICE = "choose fewer images, fewer steps, fewer cells or a larger tolerance"
CLOSING = threading.Event()  # set when the app ends: every computation then ends at its next network call


class Turns:
    """A lock that is given to the waiting threads in order of arrival."""

    def __init__(self):
        self.guard = threading.Lock()
        self.line: deque[threading.Event] = deque()  # the first has the turn, the others wait

    def __enter__(self) -> None:
        turn = threading.Event()
        with self.guard:
            self.line.append(turn)
            first = self.line[0]
        if first is not turn:
            turn.wait()

    def __exit__(self, *_) -> None:
        with self.guard:
            self.line.popleft()
            if self.line:
                self.line[0].set()

    def pass_on(self) -> None:
        """Give the turn, which this thread has, to the next thread in the line, and wait for the next turn."""
        if len(self.line) > 1:
            self.__exit__()
            self.__enter__()


TURNS = Turns()
# A forked process of ZeroGPU gets free turns: nothing there would end a turn that was taken at the fork.
os.register_at_fork(after_in_child=TURNS.__init__)


def watch_client() -> Callable[[], bool]:
    """Return a function that tells whether somebody still waits for the answer to the present request.

    Gradio has no public function for this. Its queue removes the event of a stopped request from the active ones, and
    marks the event of a client that left. A request that bypasses the queue always counts as awaited.
    """
    blocks, name = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or name is None:
        return lambda: True
    queue = blocks._queue
    return lambda: (
        not was_replaced(name)
        and any(event._id == name and event.alive for events in queue.active_jobs if events for event in events)
    )


@dataclass
class Job:
    """What one request computes: the network evaluations so far, and whether its answer is still awaited."""

    awaited: Callable[[], bool] = field(default_factory=watch_client)
    budget: int | None = None  # of network evaluations; None for BUDGET
    evaluations: int = 0
    turn_is_used: bool = False  # by a network call

    def begin_call(self, images: int) -> None:
        """Wait for a turn before a network call for ``images`` images, a guided image being two.

        Raises UserError beyond the budget, and gr.Error if nobody waits for the answer any more.
        """
        if self.turn_is_used:
            TURNS.pass_on()
        self.turn_is_used = True
        self.check_awaited()
        self.evaluations += images
        check_budget(self.evaluations, self.budget)

    def check_awaited(self) -> None:
        """Raise gr.Error if nobody waits for the answer any more, or the app ends."""
        if CLOSING.is_set() or not self.awaited():
            raise gr.Error("the computation was stopped", print_exception=False)


def check_budget(evaluations: int, budget: int | None = None) -> None:
    """Raise UserError if a request that needs so many network evaluations is too large for a shared demo."""
    budget = BUDGET if budget is None else budget
    if evaluations > budget:
        raise UserError(
            f"this needs {evaluations:,} or more network evaluations (images x calls); at most {budget:,} are allowed "
            f"in one request: {ADVICE}"
        )


class ChargedNetwork(nn.Module):
    """A network whose calls wait for their turn and are charged to a job."""

    def __init__(self, net: nn.Module, job: Job):
        super().__init__()
        self.net, self.job = net, job

    def forward(self, x: Tensor, *inputs, **options):
        """Return what the network returns for x (N, C, H, W)."""
        self.job.begin_call(len(x))
        # For one image, with or without guidance, a second thread gains little, and takes the core that the browser uses.
        use_threads(1 if len(x) <= 2 else count_threads())
        try:
            return self.net(x, *inputs, **options)
        finally:
            use_threads(count_threads())


def compute_in_turns(work: Callable[..., Iterator[T]], model: Model, job: Job, *arguments, **options) -> Iterator[T]:
    """Yield the parts of ``work(model, ...)``, computed in turns with other requests and charged to the job."""
    charged = charge(model, job)
    charged = replace(charged, weak=model.weak and charge(model.weak, job))
    return take_turns(work(charged, *arguments, **options), job)


def charge(model: Model, job: Job) -> Model:
    """Return the model with a network whose calls wait for their turn and are charged to the job."""
    net = model.denoiser.net
    return replace(model, denoiser=replace(model.denoiser, net=net.with_net(ChargedNetwork(net.net, job))))


def take_turns(parts: Iterator[T], job: Job, threads: int | None = None) -> Iterator[T]:
    """Yield the parts of a computation, each computed in a turn. gr.Error if nobody waits for the answer any more.

    ``threads`` is the number of threads that compute a part, None for all: tensors of some ten thousand numbers are
    computed faster by one thread, and on a busy machine many times faster.
    """
    usual = count_threads()
    while True:
        with TURNS:
            job.turn_is_used = False
            job.check_awaited()
            use_threads(threads or usual)
            try:
                part = next(parts, None)
            finally:
                use_threads(usual)
        if part is None:
            return
        yield part


@cache
def count_threads() -> int:
    """Return the number of threads that torch had at the first call, before any turn changed it."""
    return torch.get_num_threads()


def use_threads(number: int) -> None:
    """Let torch compute with so many threads, in this thread and in those that are new to torch."""
    if torch.get_num_threads() != number:  # setting it anew would also change how MKL divides its work
        torch.set_num_threads(number)
