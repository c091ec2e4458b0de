"""The checkpoints of the app, and where their networks run: here, or on a GPU that Hugging Face's ZeroGPU lends."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from html import escape
from math import ceil
from pathlib import Path
from typing import TypeVar

import gradio as gr
import torch
from torch import Tensor

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.files import find_newest
from ddpm_demo.models.checkpoint import Model, find_teacher, load
from ddpm_demo.models.networks import TracedNetwork
from ddpm_demo.ui.turns import TURNS, Job, compute_in_turns

T = TypeVar("T")
LENT = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as the package `spaces` reads it
# Upper estimates in seconds for an H200 of ZeroGPU: to get ready, and for a step with an image's share of it.
READY, STEP, SHARE = 3.0, 0.02, 0.0005
CALLS_PER_FRAME = 20  # network calls for a frame of an interpolation
ADAPTIVE_CALLS = 300  # of a run; the smallest tolerance needs 250 at w = 8, of digits and of photographs


@contextmanager
def report_mistakes() -> Iterator[None]:
    """Turn a user's mistake into a gr.Error: the page shows its message, and the terminal shows no traceback.

    The message is escaped, because the page renders HTML in it, and it may quote a link or a file of a checkpoint. The
    messages of all other errors are escaped too; for these, the terminal shows a traceback.
    """
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        mistake = isinstance(error, (UserError, ValueError, TypeError, ArithmeticError))
        raise gr.Error(escape(str(error), quote=False), print_exception=not mistake) from error


class Catalogue:
    """The checkpoints of the app by name, each loaded when it is first chosen."""

    def __init__(self, first: Model, name: str, folder: Path | None = None, others: Path | None = None):
        self.folders = {name: folder}
        self.loaded = {name: first}
        self.record_network(name)
        self.default_films: dict[str, list] = {}  # settings as JSON -> [film], once a visitor has seen the run
        self.examples: dict[str, tuple] = {}  # see ui/examples.py
        self.on_gpu: dict[str, Model] = {}
        self.borrow = lend_gpu(self.compute_on_gpu, estimate_gpu_seconds)
        for path in sorted(others.iterdir()) if others and others.is_dir() else []:
            if find_newest(path, "demo.json").is_file() and not (folder and path.resolve() == folder.resolve()):
                self.folders.setdefault(path.name, path)
        self.teachers = {name: teacher for name in self.folders if (teacher := self.find_teacher(name))}

    def find_teacher(self, name: str) -> str | None:
        """Find the checkpoint here from which the checkpoint called name was distilled; None if there is none."""
        if name in self.loaded:
            training = self.loaded[name].training
        else:
            try:
                training = json.loads(find_newest(self.folders[name], "demo.json").read_text())["training"]
                training = {"distill": training["distill"]}
            except (OSError, ValueError, LookupError, TypeError):
                return None  # not distilled, or damaged: then choosing it says what is wrong
        return find_teacher(training, self.folders[name], self.folders)

    def find_pair(self, name: str) -> tuple[str, str] | None:
        """Return the names (teacher, student) if the checkpoint called name is either of them, None otherwise.

        A student that cannot be loaded counts as missing: its teacher can be used without it.
        """
        name = name or self.names[0]
        pairs = ((teacher, student) for student, teacher in self.teachers.items() if name in (teacher, student))
        return next((pair for pair in pairs if self.can_load(pair[1])), None)

    def find_base(self, name: str) -> str:
        """Return the teacher of a distilled checkpoint, and every other checkpoint itself: it can begin from an image."""
        pair = self.find_pair(name)
        return pair[0] if pair and pair[1] == (name or self.names[0]) else name

    def can_load(self, name: str) -> bool:
        """Whether the checkpoint called name can be loaded."""
        try:
            self.model(name)
        except gr.Error:
            return False
        return True

    @property
    def names(self) -> list[str]:
        """The checkpoint that the app was started with, then the others."""
        return list(self.folders)

    def folder(self, name: str = "") -> Path | None:
        """The folder of a checkpoint, None if it has none on this disk."""
        self.model(name)
        return self.folders[name or self.names[0]]

    @report_mistakes()
    def model(self, name: str = "") -> Model:
        """The checkpoint called name, "" for the first. gr.Error for an unknown one, or one that cannot be loaded."""
        name = self.names[0] if name == "" else name
        check_one_of("checkpoint", name, self.folders)
        if name not in self.loaded:
            with TURNS:
                if name not in self.loaded:  # another visitor may have loaded it during the wait for the turn
                    self.loaded[name] = load(self.folders[name], next(iter(self.loaded.values())).device)
                    self.record_network(name)
        return self.loaded[name]

    def record_network(self, name: str) -> None:
        """Record a model's network during the first requests, where it runs on a CPU and a recording is faster."""

        def record() -> None:
            try:
                self.loaded[name] = model.trace()
            except Exception as error:  # a torch that cannot record: everything works, at half the speed
                print(f"note: {name} runs without its recording ({type(error).__name__}: {error})", file=sys.stderr)

        model = self.loaded[name]
        if model.device.type == "cpu" and not LENT and not isinstance(model.denoiser.net.net, TracedNetwork):
            threading.Thread(target=record).start()  # not a daemon: torch aborts if it is stopped at exit

    def compute(
        self, work: Callable[..., Iterator[T]], name: str, *arguments, job: Job | None = None, **options
    ) -> Iterator[T]:
        """Yield ``work(model, ...)`` of the checkpoint called name, part by part, in turns with other requests.

        Several computations of one request may share a ``job``. Raises gr.Error for a user's mistake, for a job beyond
        its budget, and if nobody waits for the answer any more. On a lent GPU the job has no effect: the computation ends
        with the time for which the GPU was lent.
        """
        if self.borrow:
            return self.borrow(work, name, *arguments, **options)
        return compute_here(work, self.model(name), job or Job(), *arguments, **options)

    def compute_on_gpu(self, work: Callable[..., Iterator[T]], name: str, *arguments, **options) -> Iterator[T]:
        """The same in the process that has the GPU: ZeroGPU forks it from this one, and it outlives a run."""
        if name not in self.on_gpu:
            self.on_gpu[name] = self.model(name).to(best_device())
        job = Job(awaited=lambda: True)  # Gradio's queue is in the other process; ZeroGPU limits the time
        for part in compute_here(work, self.on_gpu[name], job, *arguments, **options):
            yield move_to_cpu(part)


def lend_gpu(task: Callable[..., Iterator], seconds: Callable[..., int]) -> Callable[..., Iterator] | None:
    """Return the task as ZeroGPU runs it, for the time that ``seconds`` estimates; None outside ZeroGPU."""
    if not LENT:
        return None
    import spaces

    return spaces.GPU(task, duration=seconds)


def estimate_gpu_seconds(work: Callable, name: str, given=None, *, count: int | None = None, **options) -> int:
    """Estimate for how long, at most, ``compute`` needs a GPU. ``given`` are labels or images."""
    images = count or (len(given) if isinstance(given, list) else 1)
    calls = options.get("draws", 0) + CALLS_PER_FRAME * options.get("total", 0)
    if sampling := options.get("sampling"):
        calls = ADAPTIVE_CALLS if SAMPLERS[sampling.sampler].adaptive else sampling.calls
    return ceil(READY + calls * (STEP + images * SHARE))


def compute_here(work: Callable[..., Iterator[T]], model: Model, job: Job, *arguments, **options) -> Iterator[T]:
    """Compute in this process, with a user's mistakes as gr.Error."""
    with report_mistakes():
        yield from compute_in_turns(work, model, job, *arguments, **options)


def best_device() -> str:
    """Return "cuda" if this machine has a GPU, otherwise "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def move_to_cpu(part: T) -> T:
    """Move the tensors of a dataclass to the CPU: another process can receive them only there."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: value.cpu() for name, value in values.items() if isinstance(value, Tensor)})
