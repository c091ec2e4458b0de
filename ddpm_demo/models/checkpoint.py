"""Saves a trained model as a folder that stock diffusers can load, and loads it.

unet/config.json, unet/diffusion_pytorch_model.safetensors    float16 on disk, float32 after loading
vae/config.json, vae/diffusion_pytorch_model.safetensors      the same for an AutoencoderKL, if latents are diffused
scheduler/scheduler_config.json                               DDPMScheduler, or DDIMScheduler if distilled, with its betas
demo.json                                                     dataset, label names, image size, codec, training
samples.png, metrics.json, README.md                          samples, measured results, model card
examples.png, metrics.jsonl, samples/                         real images, losses, samples during training, for the app
"""

import copy
import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import ContinuousSchedule, Schedule
from ddpm_demo.errors import UserError, check_one_of
from ddpm_demo.models.adapters import ADAPTERS, adapt, condition_of
from ddpm_demo.models.codec import VAE, Codec, LatentCodec, load_vae, save_vae
from ddpm_demo.models.networks import TracedNetwork
from ddpm_demo.models.noisy_classifier import NoisyClassifier, load_noisy

MOST_LEVELS, MOST_CHANNELS = 16, 8192


@dataclass(frozen=True)
class Model:
    """A denoiser with its codec, its label names (empty if unconditional) and its image shape."""

    denoiser: Denoiser
    codec: Codec | LatentCodec
    label_names: tuple[str, ...]
    channels: int
    image_size: int
    dataset: str = ""
    training: dict | None = None  # training settings, as in demo.json
    noisy_classifier: NoisyClassifier | None = None  # for classifier guidance
    distilled: Distilled | None = None  # what the rows of a distilled network mean
    sampling: Sampling = Sampling()  # the settings of its samples where nothing else is asked for

    @property
    def class_names(self) -> tuple[str, ...]:
        """The available classes: those of the training, or otherwise those of the noise-aware classifier."""
        return self.label_names or (self.noisy_classifier.label_names if self.noisy_classifier else ())

    @property
    def null_label(self) -> int:
        """The label of the unconditional estimate."""
        return len(self.label_names)

    @property
    def takes_image(self) -> bool:
        """Whether the network has an image input, which allows completing and enlarging an image."""
        return self.denoiser.net.takes_image

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.denoiser.net.parameters()).device

    def trace(self) -> "Model":
        """Return this model with a traced network if it is on a CPU, where that is faster for a few images."""
        if self.device.type != "cpu":
            return self
        x = torch.randn(2, *self.codec.shape(self.channels, self.image_size))
        net, timestep = self.denoiser.net, self.denoiser.schedule.timestep(torch.zeros(2)).float()
        traced = TracedNetwork(net.net, *net.inputs(x, timestep, None, None))
        return replace(self, denoiser=replace(self.denoiser, net=net.with_net(traced)))

    def to(self, device: str | torch.device) -> "Model":
        """Return this model with its weights on ``device``."""
        net, codec = self.denoiser.net.to(device), self.codec.to(device)
        moved = replace(self, denoiser=replace(self.denoiser, net=net), codec=codec)
        return replace(moved, noisy_classifier=self.noisy_classifier and self.noisy_classifier.to(device))


def refuse_distilled(model: Model, purpose: str) -> None:
    """Raise UserError for a distilled model, whose network is no denoiser, but takes its own steps from pure noise."""
    if model.distilled:
        raise UserError(
            f"{purpose} needs a denoiser for every noise level, but this distilled model only takes its own steps from pure "
            "noise: use the model that it was distilled from"
        )


def save(model: Model, folder: str | Path) -> None:
    """Write the model to ``folder``. Each part is written to a temporary folder first, and then renamed."""
    from diffusers import DDIMScheduler, DDPMScheduler

    folder = Path(folder)
    temporary = folder / ".partial"
    shutil.rmtree(temporary, ignore_errors=True)
    copy.deepcopy(model.denoiser.net.net).half().save_pretrained(temporary / "unet")
    schedule, prediction = model.denoiser.schedule, model.denoiser.prediction
    # A distilled model takes the steps of DDIM at equal distances from the last timestep, and no others.
    kind, more = (DDIMScheduler, {"timestep_spacing": "trailing"}) if model.distilled else (DDPMScheduler, {})
    kind(
        num_train_timesteps=len(schedule), trained_betas=schedule.betas.tolist(), prediction_type=prediction,
        clip_sample=model.codec.bounded, **more,
    ).save_pretrained(temporary / "scheduler")  # fmt: skip
    latent = isinstance(model.codec, LatentCodec)
    if latent:
        save_vae(model.codec.vae, folder)
    about = {
        "dataset": model.dataset,
        "label_names": model.label_names,
        "channels": model.channels,
        "image_size": model.image_size,
        "codec": {} if latent else asdict(model.codec),
        "condition": condition_of(model.denoiser.net),
        "distilled": model.distilled and asdict(model.distilled),
        "sampling": model.sampling.as_dict(),
        "training": model.training,
    }
    (temporary / "demo.json").write_text(json.dumps(about, indent=2) + "\n")
    for part in ("unet", "scheduler", "demo.json"):
        old = folder / part
        if old.is_dir():
            shutil.rmtree(old)
        (temporary / part).replace(old)
    temporary.rmdir()


def load(source: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load the model of a folder, or of a Hub repository ``user/name`` or ``user/name@revision``, for sampling.

    Raises UserError if there is no such folder, or if it is not a valid checkpoint.
    """
    folder = Path(source)
    if not folder.is_dir():
        from ddpm_demo.hub.client import pull

        folder = pull(str(source))
    try:
        return load_folder(folder).to(device)
    except UserError:
        raise
    except Exception as error:  # diffusers, safetensors and json raise different exceptions
        raise UserError(f"{source} is not a checkpoint that can be loaded ({type(error).__name__}: {error})") from error


def load_folder(folder: Path) -> Model:
    """Load the model of an existing folder. Raises UserError if it is not a checkpoint."""
    for part in ("demo.json", "unet/config.json", "scheduler/scheduler_config.json"):
        if not (folder / part).is_file():
            raise UserError(f"{folder} is not a checkpoint: {part} is missing")
    refuse_absurd(folder)
    about = json.loads((folder / "demo.json").read_text())
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    condition = about.get("condition", "add")  # older checkpoints have no such entry
    check_one_of("condition", condition, ADAPTERS)
    import diffusers

    net: nn.Module = getattr(diffusers, ADAPTERS[condition].network).from_pretrained(
        folder, subfolder="unet", use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    names = tuple(about["label_names"])
    betas = torch.tensor(scheduler["trained_betas"], dtype=torch.float64)
    continuous = (about["training"] or {}).get("time") == "continuous"
    # With channels_last, convolutions on a CPU need no reordering, and sampling is about 10% faster.
    adapter = adapt(net.eval().requires_grad_(False).to(memory_format=torch.channels_last), condition)
    distilled = Distilled(**about["distilled"]) if about.get("distilled") else None
    labels = distilled.count_rows(len(names)) - 1 if distilled else len(names)
    if adapter.num_classes != labels:
        raise UserError(
            f"{folder} is not a checkpoint: demo.json names {labels} labels, the network has {adapter.num_classes}"
        )
    return Model(
        denoiser=Denoiser(
            adapter, ContinuousSchedule() if continuous else Schedule(betas), scheduler["prediction_type"]
        ),
        codec=Codec(**about["codec"]) if about["codec"] else LatentCodec(load_vae(folder)),
        label_names=names,
        channels=about["channels"],
        image_size=about["image_size"],
        dataset=about["dataset"],
        training=about["training"],
        noisy_classifier=load_noisy(folder) if about["codec"] else None,  # it classifies images, not latents
        distilled=distilled,
        sampling=Sampling(**about.get("sampling", {})),
    )


def refuse_absurd(folder: Path) -> None:
    """Raise UserError for a far too large network, before it exhausts the memory."""
    for part in ("unet", VAE):
        path = folder / part / "config.json"
        for name, value in json.loads(path.read_text()).items() if path.is_file() else ():
            numbers = value if isinstance(value, list) else [value]
            if len(numbers) > MOST_LEVELS or any(isinstance(n, (int, float)) and n > MOST_CHANNELS for n in numbers):
                raise UserError(
                    f"{folder} is not a checkpoint that is safe to load: {part}/config.json has {name} = {value}; at "
                    f"most {MOST_LEVELS} values of at most {MOST_CHANNELS} are allowed"
                )
