"""The checkpoints at hand, and where their networks run: here, or on a GPU that Hugging Face's ZeroGPU lends to a run."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from math import ceil
from pathlib import Path
from typing import TypeVar

import gradio as gr
import torch
from torch import Tensor

from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.networks import Recorded

T = TypeVar("T")
# Runs of several people take turns step by step: two at once would fight over the same few cores.
NETWORK = threading.Lock()
LENT = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as its package `spaces` reads it
# Upper estimates in seconds for one of ZeroGPU's H200: to get ready, and for a step with an image's share of it.
READY, STEP, SHARE = 3.0, 0.02, 0.0005
CALLS_A_FRAME = 20  # of an interpolation


@contextmanager
def in_words() -> Iterator[None]:
    """A user's mistake as Gradio shows it: its sentence alone, and no traceback in the terminal."""
    try:
        yield
    except (UserError, ValueError, TypeError, OverflowError) as error:
        raise gr.Error(str(error), print_exception=False) from error


class Catalogue:
    """The checkpoints at hand by name, loaded when first chosen."""

    def __init__(self, first: Model, name: str, folder: Path | None = None, others: Path | None = None):
        self.folders = {name: folder}
        self.loaded = {name: first}
        self.hasten(name)
        self.opened: dict[str, list] = {}  # the film, in a list, of the default run, once somebody has seen it
        self.on_gpu: dict[str, Model] = {}
        self.borrow = borrowing(self.there, gpu_seconds)
        for path in sorted(others.iterdir()) if others and others.is_dir() else []:
            if (path / "demo.json").is_file() and not (folder and path.resolve() == folder.resolve()):
                self.folders.setdefault(path.name, path)

    @property
    def names(self) -> list[str]:
        """The one that the app was started with, then the others."""
        return list(self.folders)

    def folder(self, name: str = "") -> Path | None:
        """Where a checkpoint lies, None if nowhere on disk."""
        self.model(name)
        return self.folders[name or self.names[0]]

    def model(self, name: str = "") -> Model:
        """The checkpoint called name, "" for the first. UserError for an unknown one."""
        name = self.names[0] if name == "" else name
        check_one_of("checkpoint", name, self.folders)
        if name not in self.loaded:
            with NETWORK:
                self.loaded[name] = load(self.folders[name], next(iter(self.loaded.values())).device)
            self.hasten(name)
        return self.loaded[name]

    def hasten(self, name: str) -> None:
        """Record a model's network beside the first requests, where it runs on a CPU and that makes it faster."""

        def record() -> None:
            try:
                self.loaded[name] = model.recorded()
            except Exception as error:  # a torch that no longer records: everything works, at half the speed
                print(f"note: {name} runs without its recording ({type(error).__name__}: {error})", file=sys.stderr)

        model = self.loaded[name]
        if model.device.type == "cpu" and not LENT and not isinstance(model.denoiser.net, Recorded):
            threading.Thread(target=record).start()  # not a daemon: torch aborts if it is cut off at exit

    def compute(self, work: Callable[..., Iterator[T]], name: str, *arguments, **options) -> Iterator[T]:
        """``work(model, ...)`` of the checkpoint called name, part by part, each while nobody else computes."""
        if self.borrow:
            return self.borrow(work, name, *arguments, **options)
        return in_turn(work(self.model(name), *arguments, **options))

    def there(self, work: Callable[..., Iterator[T]], name: str, *arguments, **options) -> Iterator[T]:
        """The same where the GPU is: a process of ZeroGPU's, forked from this one, that outlives a run."""
        if name not in self.on_gpu:
            self.on_gpu[name] = self.model(name).to(best_device())
        with in_words():
            for part in work(self.on_gpu[name], *arguments, **options):
                yield on_cpu(part)


def borrowing(task: Callable[..., Iterator], seconds: Callable[..., int]) -> Callable[..., Iterator] | None:
    """The task as ZeroGPU runs it, which is told how many seconds it may take; None where nothing is lent."""
    if not LENT:
        return None
    import spaces

    return spaces.GPU(task, duration=seconds)


def gpu_seconds(work: Callable, name: str, given=None, *, count: int | None = None, **options) -> int:
    """For how long ``compute`` asks for a GPU, at most: what is not used goes back. ``given`` are labels or images."""
    images = count or (len(given) if isinstance(given, list) else 1)
    calls = options.get("steps", 0) + options.get("draws", 0) + CALLS_A_FRAME * options.get("total", 0)
    return ceil(READY + calls * (STEP + images * SHARE))


def best_device() -> str:
    """cuda where there is one that stays, the CPU otherwise."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def on_cpu(part: T) -> T:
    """A dataclass whose tensors have come to the CPU, as they must to leave their process."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: value.cpu() for name, value in values.items() if isinstance(value, Tensor)})


def in_turn(parts: Iterator[T]) -> Iterator[T]:
    """The same parts of a computation, each computed while nobody else computes."""
    while True:
        with NETWORK:
            part = next(parts, None)
        if part is None:
            return
        yield part


def unlocked() -> None:
    """A forked process begins with a lock of its own: nobody there would open the one that was closed here."""
    global NETWORK
    NETWORK = threading.Lock()


os.register_at_fork(after_in_child=unlocked)
