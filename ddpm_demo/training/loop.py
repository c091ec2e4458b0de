"""The training loop, as a generator of progress that the caller prints, logs and draws.

Every random number of step N (batch order, timesteps, noise, hidden labels) comes from (seed, N, process), so a
state that was saved at step N and resumed continues to the same bits as a run that was never interrupted.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import Tensor

from ddpm_demo.data.datasets import Data
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.schedule import trained_schedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.checkpoint import Model, suggest_sampling
from ddpm_demo.training.batches import Batches
from ddpm_demo.training.compilation import report_missing_compiler
from ddpm_demo.training.configuration import TrainingConfiguration
from ddpm_demo.training.distillation import Distillation, bake_table, load_teacher
from ddpm_demo.training.learning_rate import set_learning_rate, warm_up_and_decay
from ddpm_demo.training.objective import Denoising
from ddpm_demo.training.preparation import build_network, build_optimizer, copy_weights, load_codec
from ddpm_demo.training.state import list_states, load_state, save_state

WARMUP_STEPS = 200
FIRST_SAMPLES = 125  # samples are drawn after 125, 250, 500, ... steps, since learning slows down about as much
REPORT_EVERY = 0.2  # seconds
SAMPLE_COLUMNS = 8


@dataclass(frozen=True)
class Progress:
    """Where the training stands after a step."""

    step: int
    epoch: float
    fraction: float  # of the budget, 0 .. 1
    loss: float  # running mean over about the last 50 steps
    images_per_second: float
    seconds: float  # of training, over all sessions
    seconds_left: float
    validation_loss: float | None = None  # on held-out images with the averaged weights, now and then
    samples: Tensor | None = None  # (classes * columns, C, H, W), [-1, 1], now and then
    saved: Path | None = None  # the state just written
    model: Model | None = None  # with the averaged weights, where there are samples
    others: dict[float, Model] = field(default_factory=dict)  # with the further averages, by decay, at the end


class Run:
    """The state of a training run: the network, its averaged weights, the optimizer, and how far the run is.

    It begins with the newest state in ``state_dir``, or with a new network if there is none or the run is not
    ``resumed``. UserError where the configuration does not fit the images, the processes or the checkpoint to start from.
    """

    def __init__(
        self,
        configuration: TrainingConfiguration,
        data: Data,
        held_out: Data,
        state_dir: Path,
        accelerator: Accelerator,
        resumed: bool = True,
    ):
        self.configuration, self.held_out = configuration, held_out
        self.state_dir, self.accelerator = state_dir, accelerator
        self.batches = Batches(data, configuration, accelerator)
        epochs = configuration.epochs
        self.total_steps = max(1, round(epochs * self.batches.per_epoch)) if epochs else None
        self.codec = load_codec(configuration).to(accelerator.device)
        self.label_names = data.label_names if configuration.cfg else ()
        self.channels = data.images.shape[1]

        shape = self.codec.shape(self.channels, configuration.image_size)
        self.net = build_network(configuration, shape, self.label_names, accelerator.device)
        resumed = resumed and bool(list_states(state_dir))
        begins = configuration.start_from and not resumed
        earlier = copy_weights(configuration.start_from, self.net) if begins else []
        decays = configuration.ema_decay
        self.averages = [EMAModel(self.net.parameters(), decay=decay, foreach=True) for decay in decays]
        self.optimizer = build_optimizer(configuration, self.net)
        saved = load_state(state_dir, self.net, self.averages, self.optimizer) if resumed else None
        saved = saved or {"step": 0, "seconds": 0.0, "loss": None, "earlier": earlier}
        self.step, self.seconds_before, self.mean_loss = saved["step"], saved["seconds"], saved["loss"]
        self.earlier = saved.get("earlier", [])  # the trainings of the weights that the run began with, oldest first
        self.first_step = self.step
        self.denoiser = Denoiser(
            accelerator.prepare(adapt(self.net, configuration.condition)),
            trained_schedule(configuration.schedule, configuration.time),
            configuration.prediction,
        )
        self.objective = self.choose_objective()
        self.started = time.perf_counter()
        self.batches.prepare(self.codec)
        self.ready = time.perf_counter()

    def choose_objective(self) -> Denoising | Distillation:
        """What the network learns: to denoise, or to take few steps where the configuration names a teacher."""
        if self.configuration.distill:
            teacher = load_teacher(self.configuration.distill, self.accelerator.device)
            return Distillation(teacher, self.net, self.averages[0], self.accelerator.autocast)
        return Denoising(self.configuration, len(self.label_names), self.accelerator)

    def compile(self) -> None:
        """Compile the network for the batches of this run, in minutes. UserError if torch.compile fails.

        The weights and the copies of the network stay as they are.
        """
        self.net.compile()
        with report_missing_compiler():
            self.objective.losses(self.denoiser, *self.batches.draw(self.step)).mean().backward()
        self.optimizer.zero_grad()
        self.ready = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training, over all sessions."""
        return self.seconds_before + time.perf_counter() - self.started

    def measure_budget(self, stop: Callable[[], bool]) -> tuple[float, bool]:
        """(the fraction of the budget that is spent, whether to stop); all processes take over the main one's answer."""
        if self.total_steps:
            fraction = self.step / self.total_steps
        else:
            fraction = self.seconds / (self.configuration.minutes * 60)
        stopping = stop()
        if self.accelerator.num_processes > 1:
            answer = torch.tensor([fraction, float(stopping)], dtype=torch.float64, device=self.accelerator.device)
            fraction, stopping = broadcast(answer).tolist()
        return min(fraction, 1.0), bool(stopping)

    def advance(self, fraction: float) -> None:
        """Take one step, at the learning rate that belongs to the fraction of the budget that is spent."""
        seed = self.configuration.seed
        torch.manual_seed((seed << 40) + (self.step << 8) + self.accelerator.process_index)
        x0, label, image = self.batches.draw(self.step)
        peak, anneal = self.configuration.lr, self.configuration.anneal
        set_learning_rate(self.optimizer, warm_up_and_decay(peak, self.step, fraction, WARMUP_STEPS, anneal))
        value = self.optimize(x0, label, image)
        for average in self.averages:
            average.step(self.net.parameters())
        self.step += 1
        before = self.mean_loss
        self.mean_loss = value if before is None else before + (value - before) * max(0.02, 1 / self.step)

    def optimize(self, x0: Tensor, label: Tensor, image: Tensor | None) -> Tensor:
        """One optimizer step on x0 (B, C, H, W), label (B,) and image (B, C + 1, H, W); the loss, a detached scalar."""
        losses = self.objective.losses(self.denoiser, x0, label, image)
        self.optimizer.zero_grad()
        self.accelerator.backward(losses.mean())
        self.accelerator.clip_grad_norm_(self.denoiser.net.parameters(), 1.0)
        self.optimizer.step()
        return losses.mean().detach()

    def save(self) -> Path:
        """Save the state from which the run can be resumed. UserError if the training has diverged."""
        self.check_finite()
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.mean_loss,
            "earlier": self.earlier,
            "settings": asdict(self.configuration),
        }
        return save_state(self.state_dir, self.net, self.averages, self.optimizer, progress)

    def check_finite(self) -> None:
        """Raise UserError if the loss or a weight is no longer finite."""
        self.mean_loss = None if self.mean_loss is None else float(self.mean_loss)
        finite = self.mean_loss is None or isfinite(self.mean_loss)
        if not finite or not all(bool(p.isfinite().all()) for p in self.net.parameters()):
            raise UserError(
                f"the training has diverged: at step {self.step} the loss or a weight is no longer finite. Start anew with "
                f"--overwrite and a lower --lr than {self.configuration.lr:g}"
            )

    def report(self, fraction: float, **more) -> Progress:
        """Where the run stands; ``more`` are the fields of ``Progress`` that are not always there."""
        seconds, steps = self.seconds, self.step - self.first_step
        rate = steps * self.batches.size / (time.perf_counter() - self.ready) if steps else 0.0
        if self.total_steps:
            left = (self.total_steps - self.step) * self.batches.size / rate if rate else 0.0
        else:
            left = self.configuration.minutes * 60 - seconds
        mean = float("nan") if self.mean_loss is None else float(self.mean_loss)
        return Progress(
            self.step, self.step / self.batches.per_epoch, fraction, mean, rate, seconds, max(0.0, left), **more
        )

    def evaluate(self, fraction: float, **more) -> Progress:
        """A report with the averaged model, its held-out loss, and its samples, one row for each class."""
        self.check_finite()
        model, seed = self.build_model(self.averages[0]), self.configuration.seed
        if model.label_names:
            labels = [k for k in range(min(10, len(model.label_names))) for _ in range(SAMPLE_COLUMNS)]
            samples = generate(model, labels, weight=1.0, seed=seed)
        else:
            samples = generate(model, count=SAMPLE_COLUMNS**2, seed=seed)
        held_out_loss = self.objective.validate(model, self.held_out)
        return self.report(fraction, samples=samples, validation_loss=held_out_loss, model=model, **more)

    def build_others(self) -> dict[float, Model]:
        """The models with the further averages of the weights, by their decay."""
        return dict(zip(self.configuration.ema_decay[1:], map(self.build_model, self.averages[1:])))

    def build_model(self, average: EMAModel) -> Model:
        """The model with averaged weights. It shares nothing with the training."""
        weights = copy.deepcopy(self.net).eval().requires_grad_(False)
        average.copy_to(weights.parameters())
        distilled = bake_table(weights)
        device = str(self.accelerator.device)
        about = {"steps": self.step, "seconds": round(self.seconds, 1), "device": device}
        about |= {"earlier": self.earlier} if self.earlier else {}
        return Model(
            replace(self.denoiser, net=adapt(weights, self.configuration.condition)),
            self.codec,
            self.label_names,
            self.channels,
            self.configuration.image_size,
            self.configuration.dataset,
            asdict(self.configuration) | about,
            distilled=distilled,
            sampling=distilled.defaults if distilled else suggest_sampling(self.label_names),
        )


def train(
    run: Run,
    *,
    save_every: float = 60.0,
    sample_every: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Train until the budget is spent or ``stop()``. Only the main process yields.

    ``save_every`` seconds apart the whole state is saved; ``sample_every`` steps apart (or at doublings) samples are
    drawn and the held-out loss is measured.
    """
    last_saved, last_report = time.perf_counter(), 0.0
    while True:
        fraction, stopping = run.measure_budget(stop)
        if fraction >= 1 or stopping:
            break
        run.advance(fraction)
        if not run.accelerator.is_main_process:
            continue
        if run.step % sample_every == 0 if sample_every else is_doubling(run.step):
            yield run.evaluate(fraction)
        if time.perf_counter() - last_saved > save_every:
            yield run.report(fraction, saved=run.save())
            last_saved = time.perf_counter()
        if time.perf_counter() - last_report > REPORT_EVERY:
            last_report = time.perf_counter()
            yield run.report(fraction)

    if run.accelerator.is_main_process:
        yield run.evaluate(fraction, saved=run.save(), others=run.build_others())


def is_doubling(step: int) -> bool:
    """Whether step is 125, 250, 500, 1000, ..."""
    multiple, rest = divmod(step, FIRST_SAMPLES)
    return step > 0 and rest == 0 and multiple & (multiple - 1) == 0
