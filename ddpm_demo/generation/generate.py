"""The public face of sampling: check the settings, draw the noise, guide, walk the schedule, decode each step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite

import torch
from torch import Tensor

from ddpm_demo.diffusion import samplers
from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.guidance import ByClassifier, ClassifierFree, Completion
from ddpm_demo.diffusion.samplers import SAMPLERS, VARIANCES, Step
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.partial_image import Beside, beside, to_complete

MAX_WEIGHT = 100.0


def sample(
    model: Model,
    labels: Sequence[int] | None = None,
    *,
    count: int | None = None,
    weight: float = 0.0,
    schedule: str = "cosine",
    sampler: str = "dpm++2m",
    steps: int = 20,
    seed: int | Sequence[int] = 0,
    variance: str = "posterior",
    interval: tuple[float, float] = (-inf, inf),
    scale: float = 0.0,
    tolerance: float = 1e-3,
    snr: float = 0.16,
    image: Tensor | None = None,
    start: float | None = None,
    keep: Tensor | None = None,
    decoded: bool = True,
) -> Iterator[Step]:
    """Every step of the reverse process, as images (N, C, H, W), [-1, 1]; the last step's ``x0`` is the sample.

    ``labels`` are N class numbers; None draws ``count`` images (1) without a label. ``weight`` is the guidance
    weight w of Ho & Salimans 2022 (0: plain conditional; diffusers' ``guidance_scale`` is 1 + w), applied where the
    log-SNR lies in ``interval``. ``variance`` is DDPM's choice of reverse variance, "posterior" or "beta". Image k
    starts from the noise of ``seed + k``, or of the k-th of several seeds, whatever the other images or the device.

    ``scale`` is that of classifier guidance (Dhariwal & Nichol 2021), on top of what ``weight`` gives, or on a model
    without labels; it needs the checkpoint's noise-aware classifier. ``tolerance`` belongs to the sampler "ode", ``snr``
    to the corrector of "pc".

    With ``image`` (C, H, W) or one for each (N, C, H, W), [-1, 1], the walk begins at timestep ``start`` of the schedule
    from that image under noise (SDEdit, Meng et al. 2022), and what ``keep`` (H, W), bool, marks of it is kept: the rest
    is painted anew. A network that takes an image beside x completes it by itself then, and with neither ``start`` nor ``keep`` it enlarges
    ``image``, which is a small one blown up.

    Where latents are diffused, so are x, eps and guidance of a step; x0 is the image. ``decoded`` False leaves all as it is
    diffused, for who needs the last step alone: ``shown`` decodes that. UserError for a wrong setting.
    """
    check(model, labels, count, weight, schedule, sampler, steps, seed, variance, interval, scale)
    between("tolerance", tolerance, 1e-6, 0.1)
    between("snr", snr, 0, 1)
    number = len(labels) if labels is not None else count or 1
    check_image(model, image, start, keep, number)
    label = None if labels is None else torch.tensor(labels, dtype=torch.int64, device=model.device)
    seeds = [seed + k for k in range(number)] if isinstance(seed, int) else seed
    shape = model.codec.shape(model.channels, model.image_size)
    noise = noise_source(seeds, shape, model.device)
    grid = log_snr_grid(model, schedule, steps, start)
    denoise, x = model.denoiser, noise()
    beside_x = denoise.condition == "image"
    images = image[None] if image is not None and image.ndim == 3 else image
    if beside_x and image is not None and start is None:
        task = to_complete(images, keep) if keep is not None else (images, torch.zeros_like(images[:, :1]))
        denoise = Beside(denoise, beside(model.codec, *task).to(model.device).expand(number, -1, -1, -1))
    if model.label_names and label is not None:
        denoise = ClassifierFree(denoise, weight, model.denoiser.num_classes, interval)
    if scale:
        denoise = ByClassifier(denoise, on_images(model), scale, interval)
    if image is not None and not (beside_x and start is None):
        known = model.codec.encode(images).to(model.device)
        if keep is not None:
            denoise = Completion(denoise, known, model.codec.known(keep, model.channels).to(model.device))
        alpha, sigma = (c.item() for c in alpha_sigma(grid[0]))
        x = alpha * known + sigma * x
    walk = samplers.sample(
        denoise,
        x,
        grid,
        label,
        sampler=sampler,
        noise=noise,
        variance=variance,
        clip=model.codec.bounded,
        tolerance=tolerance,
        snr=snr,
    )
    walked = Schedule.named(schedule)
    numbered = (replace(step, timestep=walked.timestep(step.log_snr).item()) for step in walk)
    return (shown(step, model) for step in numbered) if decoded else numbered


def shown(step: Step, model: Model) -> Step:
    """A step of what is diffused as one of images: patches unfolded, or the clean estimate alone decoded."""
    decode = model.codec.decode
    if not model.codec.bounded:
        return replace(step, x0=decode(step.x0), latents=step.x0)
    guidance = None if step.guidance is None else decode(step.guidance)
    return replace(step, x=decode(step.x), x0=decode(step.x0), eps=decode(step.eps), guidance=guidance)


def on_images(model: Model) -> Callable[[Tensor, float], Tensor]:
    """The model's noise-aware classifier on what is diffused: patches are pixels in another order, noise stays noise."""
    return lambda x, log_snr: model.noisy_classifier(model.codec.decode(x), log_snr)


def generate(model: Model, labels: Sequence[int] | None = None, **settings) -> Tensor:
    """The finished images (N, C, H, W), [-1, 1]: the last clean estimate of ``sample``, same arguments."""
    for step in sample(model, labels, **settings, decoded=False):
        pass
    return shown(step, model).x0


def log_snr_grid(model: Model, schedule: str, steps: int, start: float | None = None) -> Tensor:
    """The log-SNRs (steps,) that ``sample`` visits: the schedule's, within those the model was trained on."""
    return Schedule.named(schedule).grid(steps, within=model.denoiser.schedule.range, start=start)


def noise_source(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Callable[[], Tensor]:
    """A function that draws the next noise (N, *shape); every image has a CPU generator of its own, with its seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


def check(model, labels, count, weight, schedule, sampler, steps, seed, variance, interval, scale) -> None:
    """UserError that names the argument, what came and what is allowed."""
    one_of("schedule", schedule, SCHEDULES)
    one_of("sampler", sampler, SAMPLERS)
    one_of("variance", variance, VARIANCES)
    whole("steps", steps, 1, 1000)
    for one in [seed] if isinstance(seed, (int, float, str, type(None))) else seed:
        whole("seed", one, 0, 2**32 - 1)
    between("weight", weight, -MAX_WEIGHT, MAX_WEIGHT)
    between("scale", scale, -MAX_WEIGHT, MAX_WEIGHT)
    if scale and model.noisy_classifier is None:
        raise UserError(
            f"scale is {scale}, but this checkpoint has no noise-aware classifier: train one with  python train.py "
            "--classifier --noise-aware --dataset NAME --output-dir FOLDER"
        )
    if not len(interval) == 2 or not interval[0] <= interval[1]:
        raise UserError(f"interval is {interval!r}; it must be (lowest, highest) log-SNR")
    number = len(labels) if labels is not None else 1 if count is None else count
    if isinstance(seed, Sequence) and len(seed) != number:
        raise UserError(f"seed holds {len(seed)} numbers for {number} images; it must be one number, or one an image")
    if labels is None:
        whole("count", 1 if count is None else count, 1, 2**20)
        if weight or scale:
            raise UserError(f"weight is {weight}, scale {scale}, but guidance needs labels: pass labels, or 0 for both")
        return
    if not model.label_names and weight:
        raise UserError(f"weight is {weight}, but this model was trained without classes: only scale can guide it")
    if not model.label_names and not scale:
        raise UserError("labels were given, but this model was trained without classes: pass count instead")
    if count is not None and count != len(labels):
        raise UserError(f"count is {count}, but there are {len(labels)} labels: pass one of the two")
    if not len(labels):
        raise UserError("labels is empty; it must hold at least one class number")
    for label in labels:
        whole("label", label, 0, len(model.class_names) - 1)


def check_image(model: Model, image: Tensor | None, start: float | None, keep: Tensor | None, number: int = 1) -> None:
    """UserError unless the image to begin from, or one for each of a ``number``, fits the model."""
    size = (model.channels, model.image_size, model.image_size)
    if image is None:
        if start is not None or keep is not None:
            raise UserError("start and keep need an image to begin from")
        return
    if tuple(image.shape) not in (size, (number, *size)) or not bool(image.isfinite().all()):
        raise UserError(
            f"image has shape {tuple(image.shape)}; it must be finite numbers of shape {size}, or one for each"
        )
    if keep is not None and (keep.dtype != torch.bool or tuple(keep.shape) != size[1:]):
        raise UserError(f"keep is {keep.dtype} of shape {tuple(keep.shape)}; it must be bool of shape {size[1:]}")
    if start is not None and (isinstance(start, bool) or not 0 <= start <= 999):
        raise UserError(f"start is {start!r}; it must be a timestep from 0 to 999")


def one_of(name: str, value: str, allowed) -> None:
    """UserError unless value is one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def between(name: str, value: float, lowest: float, highest: float) -> None:
    """UserError unless value is a finite number (bool excluded) in range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise UserError(f"{name} is {value!r}; it must be a finite number")
    if not lowest <= value <= highest:
        raise UserError(f"{name} is {value}; it must lie between {lowest:g} and {highest:g}")


def whole(name: str, value: int, lowest: int, highest: int) -> None:
    """UserError unless value is an integer (bool excluded) in range."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UserError(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}")
