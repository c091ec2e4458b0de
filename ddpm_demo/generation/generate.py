"""The public sampling functions. They validate, prepare the start, add guidance, run the process and decode."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial

import torch
from torch import Tensor

from ddpm_demo.diffusion.guidance import Autoguidance, ByClassifier, ClassifierFree, Denoise
from ddpm_demo.diffusion.reverse_process import Step, check_finite, walk
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.generation.begin import Begin, PureNoise, noise_source
from ddpm_demo.models.checkpoint import Model


def sample(
    model: Model,
    labels: Sequence[int] | None = None,
    *,
    count: int | None = None,
    begin: Begin = PureNoise(),
    decoded: bool = True,
    sampling: Sampling | None = None,
    **settings,
) -> Iterator[Step]:
    """Yield every step of the reverse process as images (N, C, H, W), [-1, 1]; the last step's ``x0`` is the sample.

    ``labels`` are N class numbers. If they are None, ``count`` images (default 1) are drawn without a label. The
    ``settings`` are the fields of ``Sampling``; fields that are not given are those of ``sampling``, or else those of
    ``model.sampling`` (without guidance if ``labels`` is None). ``weight`` is the guidance weight w of Ho & Salimans 2022
    (0: conditional; the ``guidance_scale`` of diffusers is 1 + w). It applies where the log-SNR is in ``interval``.
    ``classifier_scale`` is the scale of classifier guidance (Dhariwal & Nichol 2021), which requires a noise-aware
    classifier in the checkpoint. ``autoguidance`` is the scale of autoguidance (Karras et al. 2024), which requires a
    weaker model in the checkpoint. ``variance``, ``corrector_snr`` and ``ode_tolerance`` apply only to some samplers.
    Image k starts from the noise of ``seed + k``, or of the k-th of several seeds. This noise does not depend on the
    other images or on the device.

    ``begin`` is the start of the process: ``PureNoise()``, ``MixedNoise(seeds, places)``, ``NoisedImage(image, start)``,
    ``Completion(image, keep)`` or ``Enlargement(image)``.

    For a model of latents, x, eps and guidance of a step are latents, and x0 is the image. With ``decoded`` False, no
    step is decoded; ``decode_step`` decodes a single step. The call itself raises UserError for a wrong setting; the
    model runs only when the first step is requested.
    """
    own = model.sampling
    if labels is None:
        own = replace(own, weight=0.0, classifier_scale=0.0, autoguidance=0.0)
    sampling = change_settings(sampling or own, settings)
    number = sampling.check(model, labels, count)
    begin.check(model, number)
    steps = draw_steps(model, labels, number, begin, sampling)
    return (decode_step(step, model) for step in steps) if decoded else steps


def draw_steps(
    model: Model, labels: Sequence[int] | None, number: int, begin: Begin, sampling: Sampling
) -> Iterator[Step]:
    """Yield the steps of ``number`` images without decoding. ``sample`` has checked all arguments."""
    label = None if labels is None else torch.tensor(labels, dtype=torch.int64, device=model.device)
    noise = noise_source(sampling.seeds(number), model.codec.shape(model.channels, model.image_size), model.device)
    grid = log_snr_grid(model, sampling, begin.start)
    guide = partial(add_guidance, model, labels is not None, sampling)
    x, denoise = begin.prepare(model, noise(), grid[0], guide)
    schedule = Schedule.named(sampling.schedule)
    for step in walk(denoise, x, grid, label, sampling, noise=noise, clip=model.codec.bounded):
        yield replace(step, timestep=schedule.timestep(step.log_snr).item())


def generate(model: Model, labels: Sequence[int] | None = None, **settings) -> Tensor:
    """Return the generated images (N, C, H, W), [-1, 1]: the last ``x0`` of ``sample``, with the same arguments."""
    *_, step = sample(model, labels, **settings, decoded=False)
    return decode_step(step, model).x0


def change_settings(sampling: Sampling, settings: dict) -> Sampling:
    """Return the sampling with some settings changed.

    Raises TypeError for an unknown name and UserError for a value that is not allowed.
    """
    names = [field.name for field in fields(Sampling)]
    unknown = [name for name in settings if name not in names]
    if unknown:
        raise TypeError(f"there is no setting {', '.join(unknown)}; the settings are {', '.join(names)}")
    return replace(sampling, **settings)


def add_guidance(model: Model, labelled: bool, sampling: Sampling, denoise: Denoise) -> Denoise:
    """Add autoguidance, classifier-free and classifier guidance to a denoiser, as far as the settings request them."""
    if model.distilled:
        return model.distilled.condition(denoise, sampling.weight, sampling.steps)
    if sampling.autoguidance:
        denoise = Autoguidance(denoise, model.weak.denoiser, sampling.autoguidance, sampling.interval)
    if model.label_names and labelled:
        denoise = ClassifierFree(denoise, sampling.weight, model.null_label, sampling.interval)
    if sampling.classifier_scale:
        denoise = ByClassifier(denoise, classify_diffused(model), sampling.classifier_scale, sampling.interval)
    return denoise


def classify_diffused(model: Model) -> Callable[[Tensor, float], Tensor]:
    """Return the noise-aware classifier as a function of encoded images. Decoding patches keeps the noise white."""
    return lambda x, log_snr: model.noisy_classifier(model.codec.decode(x), log_snr)


def decode_step(step: Step, model: Model) -> Step:
    """Decode a step: all tensors if patches are diffused, only the clean estimate if latents are diffused."""
    decode = model.codec.decode
    if not model.codec.bounded:
        images = decode(step.x0)
        check_finite(images, "the autoencoder")
        return replace(step, x0=images, latents=step.x0)
    guidance = None if step.guidance is None else decode(step.guidance)
    return replace(step, x=decode(step.x), x0=decode(step.x0), eps=decode(step.eps), guidance=guidance)


def log_snr_grid(model: Model, sampling: Sampling, start: float | None = None) -> Tensor:
    """Return the log-SNRs that ``sample`` visits: those of ``Schedule.grid``, clamped to the training range."""
    return Schedule.named(sampling.schedule).grid(sampling.steps, within=sampling_range(model), start=start)


def count_evaluations(model: Model, sampling: Sampling, start: float | None = None) -> int:
    """Return the network evaluations per image of a run from timestep ``start``, at least: ``ode`` may need more.

    A call needs two evaluations where it mixes two estimates: inside the interval of guidance, and not in a distilled
    network, which contains its guidance. With autoguidance, the weaker network is evaluated as often there.
    """
    low, high = sampling.interval
    guided = 1 if model.distilled else sampling.evaluations_per_call
    costs = [guided if low <= log_snr <= high else 1 for log_snr in log_snr_grid(model, sampling, start).tolist()]
    second = costs[1:] if SAMPLERS[sampling.sampler].calls == 2 else []  # a step's second call is at the next log-SNR
    return sum(costs) + sum(second)


def sampling_range(model: Model) -> tuple[float, float]:
    """Return the lowest and the highest log-SNR of a sampling step: those of the training, within ``ALWAYS``."""
    lowest, highest = model.denoiser.schedule.range
    return max(lowest, ALWAYS[0]), min(highest, ALWAYS[1])
