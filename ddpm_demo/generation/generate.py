"""The public face of sampling: validate, begin, guide, walk, decode."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import ByClassifier, ClassifierFree, Denoise
from ddpm_demo.diffusion.reverse_process import Step, walk
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.generation.begin import Begin, PureNoise
from ddpm_demo.models.checkpoint import Model


def sample(
    model: Model,
    labels: Sequence[int] | None = None,
    *,
    count: int | None = None,
    begin: Begin = PureNoise(),
    decoded: bool = True,
    **settings,
) -> Iterator[Step]:
    """Every step of the reverse process, as images (N, C, H, W), [-1, 1]; the last step's ``x0`` is the sample.

    ``labels`` are N class numbers; None draws ``count`` images (1) without a label. The ``settings`` are the fields of
    ``Sampling``: ``weight`` is the guidance weight w of Ho & Salimans 2022 (0: plain conditional; diffusers'
    ``guidance_scale`` is 1 + w), applied where the log-SNR lies in ``interval``; ``schedule``, ``sampler``, ``steps``;
    ``classifier_scale`` is that of classifier guidance (Dhariwal & Nichol 2021), which needs the checkpoint's
    noise-aware classifier; ``variance``, ``corrector_snr`` and ``ode_tolerance`` belong to single samplers. Image k
    starts from the noise of ``seed + k``, or of the k-th of several seeds, whatever the other images or the device.

    ``begin`` says where the walk begins: ``PureNoise()``, ``NoisedImage(image, start)``, ``Completion(image, keep)`` or
    ``Enlargement(image)``.

    Where latents are diffused, so are x, eps and guidance of a step; x0 is the image. ``decoded`` False leaves every
    step as it is diffused; ``decode_step`` decodes a single one. UserError for a wrong setting, at once; the model
    computes when the first step is asked for.
    """
    sampling = read_settings(settings)
    number = sampling.check(model, labels, count)
    begin.check(model, number)
    steps = draw_steps(model, labels, number, begin, sampling)
    return (decode_step(step, model) for step in steps) if decoded else steps


def draw_steps(
    model: Model, labels: Sequence[int] | None, number: int, begin: Begin, sampling: Sampling
) -> Iterator[Step]:
    """The steps of ``number`` images as they are diffused; what ``sample`` has checked is valid."""
    label = None if labels is None else torch.tensor(labels, dtype=torch.int64, device=model.device)
    noise = noise_source(sampling.seeds(number), model.codec.shape(model.channels, model.image_size), model.device)
    grid = log_snr_grid(model, sampling, begin.start)
    guide = partial(add_guidance, model, labels is not None, sampling)
    x, denoise = begin.prepare(model, noise(), grid[0], guide)
    schedule = Schedule.named(sampling.schedule)
    for step in walk(denoise, x, grid, label, sampling, noise=noise, clip=model.codec.bounded):
        yield replace(step, timestep=schedule.timestep(step.log_snr).item())


def generate(model: Model, labels: Sequence[int] | None = None, **settings) -> Tensor:
    """The finished images (N, C, H, W), [-1, 1]: the last clean estimate of ``sample``, same arguments."""
    *_, step = sample(model, labels, **settings, decoded=False)
    return decode_step(step, model).x0


def read_settings(settings: dict) -> Sampling:
    """The settings as a value. TypeError for a name that is no setting, UserError for a value that is not allowed."""
    names = [field.name for field in fields(Sampling)]
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise TypeError(f"there is no setting {', '.join(unknown)}; the settings are {', '.join(names)}")
    return Sampling(**settings)


def add_guidance(model: Model, labelled: bool, sampling: Sampling, denoise: Denoise) -> Denoise:
    """The denoiser with classifier-free and classifier guidance around it, as far as they are asked for."""
    if model.label_names and labelled:
        denoise = ClassifierFree(denoise, sampling.weight, model.null_label, sampling.interval)
    if sampling.classifier_scale:
        denoise = ByClassifier(denoise, classify_diffused(model), sampling.classifier_scale, sampling.interval)
    return denoise


def classify_diffused(model: Model) -> Callable[[Tensor, float], Tensor]:
    """The model's noise-aware classifier on what is diffused: patches are pixels in another order, noise stays noise."""
    return lambda x, log_snr: model.noisy_classifier(model.codec.decode(x), log_snr)


def decode_step(step: Step, model: Model) -> Step:
    """A step of what is diffused as one of images: patches unfolded, or the clean estimate alone decoded."""
    decode = model.codec.decode
    if not model.codec.bounded:
        return replace(step, x0=decode(step.x0), latents=step.x0)
    guidance = None if step.guidance is None else decode(step.guidance)
    return replace(step, x=decode(step.x), x0=decode(step.x0), eps=decode(step.eps), guidance=guidance)


def log_snr_grid(model: Model, sampling: Sampling, start: float | None = None) -> Tensor:
    """The log-SNRs (steps,) that ``sample`` visits: the schedule's, within those the model was trained on."""
    lowest, highest = model.denoiser.schedule.range
    within = max(lowest, ALWAYS[0]), min(highest, ALWAYS[1])
    return Schedule.named(sampling.schedule).grid(sampling.steps, within=within, start=start)


def noise_source(seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Callable[[], Tensor]:
    """A function that draws the next noise (N, *shape); every image has a CPU generator of its own, with its seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return lambda: torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
