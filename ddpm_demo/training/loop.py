"""The training loop, as a generator of progress that the caller prints, logs and draws.

Every random number of step N (batch order, timesteps, noise, hidden labels) comes from (seed, N, process), so a
state that was saved at step N and resumed continues to the same bits as a run that was never interrupted.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirrored
from ddpm_demo.diffusion.denoiser import Denoiser, loss
from ddpm_demo.diffusion.schedule import trained_schedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.codec import CHUNK, Codec, LatentCodec, load_vae
from ddpm_demo.models.networks import unet
from ddpm_demo.models.partial_image import draw_tasks, encode_partial
from ddpm_demo.training.configuration import Settings
from ddpm_demo.training.state import load_state, save_state

WARMUP_STEPS = 200
FIRST_SAMPLES = 125  # grids of samples after 125, 250, 500, ... steps: what is learned doubles in time, roughly
HELD_OUT_IMAGES = 512
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


def train(
    settings: Settings,
    data: Data,
    held_out: Data,
    state_dir: Path,
    accelerator: Accelerator,
    *,
    save_every: float = 60.0,
    sample_every: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Train from the newest state in ``state_dir``, or from the start, until the budget is spent or ``stop()``.

    ``save_every`` seconds apart the whole state is saved; ``sample_every`` steps apart (or at doublings) samples are
    drawn and the held-out loss is measured. Only the main process yields.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    batch_size = min(settings.batch_size, len(data))
    if batch_size % processes:
        raise UserError(f"batch size {batch_size} cannot be shared evenly by {processes} processes")
    codec = LatentCodec(load_vae(Path(settings.latent))) if settings.latent else Codec(settings.patch)
    codec = codec.to(accelerator.device)
    shape = codec.shape(data.images.shape[1], settings.image_size)
    steps_per_epoch = len(data) // batch_size
    total_steps = round(settings.epochs * steps_per_epoch) if settings.epochs else None

    torch.manual_seed(settings.seed)
    classes = len(data.label_names) if settings.cfg else 0
    net = unet(
        shape,
        settings.widths,
        classes,
        attention=settings.attention,
        layers=settings.layers,
        dropout=settings.dropout,
        condition=settings.condition,
    ).to(accelerator.device, memory_format=torch.channels_last)  # on a CPU a step is then a fifth faster
    if settings.start_from:
        start_from(net, settings.start_from)
    ema = EMAModel(net.parameters(), decay=settings.ema_decay, foreach=True)
    optimizer = torch.optim.AdamW(net.parameters(), settings.lr, betas=(0.9, 0.99), fused=True)
    progress = load_state(state_dir, net, ema, optimizer) or {"step": 0, "seconds": 0.0, "loss": None}
    step, seconds_before, mean_loss = progress["step"], progress["seconds"], progress["loss"]
    first_step = step
    prepared = accelerator.prepare(adapt(net, settings.condition))
    schedule = trained_schedule(settings.schedule, settings.time)
    denoiser = Denoiser(prepared, schedule, settings.prediction)
    started = time.perf_counter()
    # Encoded once, since the autoencoder does not learn; with an image beside x, pieces of it are, so they cannot be.
    once = settings.latent and settings.condition != "image"
    latents = encoded(codec, data, settings.flip, accelerator.is_main_process) if once else None
    data, ready = data.to(accelerator.device), time.perf_counter()

    def averaged() -> Model:
        """The model with the averaged weights, sharing nothing with the training."""
        weights = copy.deepcopy(net).eval().requires_grad_(False)
        ema.copy_to(weights.parameters())
        about = asdict(settings) | {"steps": step, "seconds": round(seconds(), 1), "device": str(accelerator.device)}
        return Model(
            replace(denoiser, net=adapt(weights, settings.condition)),
            codec,
            data.label_names if classes else (),
            data.images.shape[1],
            settings.image_size,
            settings.dataset,
            about,
        )

    def seconds() -> float:
        return seconds_before + time.perf_counter() - started

    def spent() -> tuple[float, bool]:
        """The fraction of the budget that is spent, and whether to stop: the main process's view, for all."""
        fraction = step / total_steps if total_steps else seconds() / (settings.minutes * 60)
        view = torch.tensor([fraction, float(stop())], dtype=torch.float64, device=accelerator.device)
        fraction, stopping = (broadcast(view) if processes > 1 else view).tolist()
        return min(fraction, 1.0), bool(stopping)

    def report(fraction: float, **extra) -> Progress:
        now, trained = seconds(), step - first_step
        rate = trained * batch_size / (time.perf_counter() - ready) if trained else 0.0
        if total_steps:
            left = (total_steps - step) * batch_size / rate if rate else 0.0
        else:
            left = settings.minutes * 60 - now
        mean = float("nan") if mean_loss is None else float(mean_loss)
        return Progress(step, step / steps_per_epoch, fraction, mean, rate, now, max(0.0, left), **extra)

    def snapshot() -> dict:
        return {"step": step, "seconds": seconds(), "loss": mean_loss, "settings": asdict(settings)}

    epoch, order, last_saved, last_report = -1, None, time.perf_counter(), 0.0
    while True:
        fraction, stopping = spent()
        if fraction >= 1 or stopping:
            break
        if step // steps_per_epoch != epoch:
            epoch = step // steps_per_epoch
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(settings.seed + epoch))
        start = step % steps_per_epoch * batch_size
        chosen = order[start : start + batch_size][rank::processes].to(accelerator.device)
        torch.manual_seed((settings.seed << 40) + (step << 8) + rank)
        rate = settings.lr * min(1.0, (step + 1) / WARMUP_STEPS) * (1 + cos(pi * fraction)) / 2
        if latents is None:
            images, label = data.batch(chosen)
            images = mirrored(images) if settings.flip else images
            x0 = codec.encode(images)
        else:
            images, label = None, data.labels[chosen]
            x0 = latents[torch.randint(len(latents), (len(chosen),)), chosen.cpu()].float().to(accelerator.device)
        beside_x = encode_partial(codec, *draw_tasks(images)) if settings.condition == "image" else None
        value = train_step(accelerator, denoiser, x0, label, classes or None, beside_x, optimizer, rate, settings)
        ema.step(net.parameters())
        step += 1
        mean_loss = value if mean_loss is None else mean_loss + (value - mean_loss) * max(0.02, 1 / step)

        if not accelerator.is_main_process:
            continue
        if step % sample_every == 0 if sample_every else is_doubling(step):
            yield evaluate(report, fraction, averaged(), held_out, settings)
        if time.perf_counter() - last_saved > save_every:
            mean_loss = float(mean_loss)
            yield report(fraction, saved=save_state(state_dir, net, ema, optimizer, snapshot()))
            last_saved = time.perf_counter()
        if time.perf_counter() - last_report > 0.2:
            last_report = time.perf_counter()
            yield report(fraction)

    if accelerator.is_main_process:
        mean_loss = None if mean_loss is None else float(mean_loss)
        path = save_state(state_dir, net, ema, optimizer, snapshot())
        yield replace(evaluate(report, fraction, averaged(), held_out, settings), saved=path)


def start_from(net: torch.nn.Module, source: str) -> None:
    """Take over the weights of a checkpoint; UserError unless its network is built like this one."""
    theirs = load(source).denoiser.net.net.state_dict()
    ours = {name: value.shape for name, value in net.state_dict().items()}
    if {name: value.shape for name, value in theirs.items()} != ours:
        raise UserError(
            f"the network of {source} is built otherwise: give the --widths, --layers, --patch, --condition and classes that "
            f"its card (README.md) names"
        )
    net.load_state_dict(theirs)


@torch.no_grad()
def encoded(codec: LatentCodec, data: Data, flip: bool, show: bool) -> Tensor:
    """All images as latents (1, N, c, h, w), half the precision, on the CPU; with ``flip`` (2, ...), mirrored ones, too."""
    views = []
    for flipped in (False, True)[: 1 + flip]:
        parts = tqdm(
            torch.arange(len(data)).split(CHUNK), "encoding images", leave=False, disable=None if show else True
        )
        views.append(torch.cat([codec.encode(turned(data.batch(p)[0], flipped)).half().cpu() for p in parts]))
    return torch.stack(views)


def turned(images: Tensor, flipped: bool) -> Tensor:
    """Images (N, C, H, W), all mirrored or none."""
    return images.flip(-1) if flipped else images


def train_step(
    accelerator, denoiser, x0, label, null_label, image, optimizer, rate: float, settings: Settings
) -> Tensor:
    """One optimizer step at learning rate ``rate`` on x0 (B, C, H, W), label (B,); the loss, a detached scalar.

    ``image`` is what stands beside x (B, C + 1, H, W), None unless the network is conditioned on one.
    """
    device, count = x0.device, len(x0)
    if null_label is not None:
        label = torch.where(torch.rand(count, device=device) < settings.label_dropout, null_label, label)
    # Stratified timesteps: image i of the batch draws from the i-th of B equal parts of the time (less variance).
    processes = accelerator.num_processes
    place = torch.arange(count) * processes + accelerator.process_index
    log_snr = denoiser.schedule.at((place + torch.rand(count)) / (count * processes))
    losses = loss(denoiser, x0, log_snr, torch.randn_like(x0), label, settings.loss_weighting, image)
    optimizer.zero_grad()
    accelerator.backward(losses.mean())
    accelerator.clip_grad_norm_(denoiser.net.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return losses.mean().detach()


def is_doubling(step: int) -> bool:
    """Whether step is 125, 250, 500, 1000, ..."""
    multiple, rest = divmod(step, FIRST_SAMPLES)
    return step > 0 and rest == 0 and multiple & (multiple - 1) == 0


@torch.no_grad()
def validation_loss(model: Model, held_out: Data, weighting: str) -> float:
    """Mean loss of a model on up to 512 held-out images, with the same noise and timesteps at every call."""
    count, T = min(HELD_OUT_IMAGES, len(held_out)), len(model.denoiser.schedule)
    images, label = held_out.batch(torch.arange(count) * len(held_out) // count)
    x0 = model.codec.encode(images)  # with nothing beside it, where the network could take an image
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    log_snr = model.denoiser.schedule.log_snr((torch.arange(count) + 0.5) / count * (T - 1))
    shuffled = log_snr[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    parts = zip(
        *(part.split(128) for part in (x0.to(model.device), shuffled, noise.to(model.device), label.to(model.device)))
    )
    losses = [loss(model.denoiser, a, b, c, d, weighting) for a, b, c, d in parts]
    return torch.cat(losses).mean().item()


def evaluate(report, fraction: float, model: Model, held_out: Data, settings: Settings) -> Progress:
    """A report with the held-out loss and samples, one row per class."""
    if model.label_names:
        labels = [k for k in range(min(10, len(model.label_names))) for _ in range(SAMPLE_COLUMNS)]
        samples = generate(model, labels, weight=1.0, seed=settings.seed)
    else:
        samples = generate(model, count=SAMPLE_COLUMNS**2, seed=settings.seed)
    held_out_loss = validation_loss(model, held_out, settings.loss_weighting)
    return report(fraction, samples=samples, validation_loss=held_out_loss, model=model)
