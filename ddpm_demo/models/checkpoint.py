"""Saves a trained model as a folder that stock diffusers can load, and loads it.

unet/config.json, unet/diffusion_pytorch_model.safetensors    float16 on disk, float32 after loading
vae/config.json, vae/diffusion_pytorch_model.safetensors      the same for an AutoencoderKL, if latents are diffused
weak/                                                         a checkpoint of a weaker model, for autoguidance
scheduler/scheduler_config.json                               DDPMScheduler, or DDIMScheduler if distilled, with its betas
demo.json                                                     dataset, label names, image size, codec, training, sampling
samples.png, metrics.json, README.md                          samples, measured results, model card
beside.png, nearest.png                                       samples beside test images, and the nearest training images
examples.png, metrics.jsonl, samples/                         real images, losses, samples during training, for the app
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType

import torch

from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import ContinuousSchedule, Schedule
from ddpm_demo.errors import UserError, check_one_of, check_whole, quote
from ddpm_demo.files import COMPLETE, find_newest, replace_together, write_atomically
from ddpm_demo.hub.client import PARTS, locate
from ddpm_demo.models.adapters import ADAPTERS, CONDITIONS, ClassAdded, adapt, condition_of
from ddpm_demo.models.codec import Codec, LatentCodec, load_vae, write_vae
from ddpm_demo.models.networks import TracedNetwork
from ddpm_demo.models.noisy_classifier import NoisyClassifier, load_noisy
from ddpm_demo.models.weights import (
    WEIGHTS,
    build_on_meta,
    check_call,
    check_names,
    explain_damage,
    read_object,
    read_weights,
)

SMALLEST_SIZE, LARGEST_SIZE, LARGEST_PATCH = 4, 1024, 16  # of images, in pixels
MOST_STEPS = 10_000  # of a schedule
WEAK = "weak"  # the folder of the weaker model
CHANNELS = (1, 3)  # gray or colour
ENTRIES = {  # of demo.json: its type, and that in words
    "dataset": (str, "a text"),
    "label_names": (list, "a list of texts"),
    "channels": (int, "a whole number"),
    "image_size": (int, "a whole number"),
    "codec": (dict, "an object"),
    "training": ((dict, NoneType), "an object or null"),
    "distilled": ((dict, NoneType), "an object or null"),
    "sampling": (dict, "an object"),
}


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
    weak: "Model | None" = None  # a weaker model of the same data, for autoguidance
    distilled: Distilled | None = None  # what the rows of a distilled network mean
    sampling: Sampling = Sampling()  # the settings where a caller gives no others; the app starts with them

    @property
    def class_names(self) -> tuple[str, ...]:
        """The available classes: those of the training, or otherwise those of the noise-aware classifier."""
        return self.label_names or (self.noisy_classifier.label_names if self.noisy_classifier else ())

    @property
    def trainings(self) -> list[dict]:
        """The trainings that made the weights, as in demo.json, oldest first; each started from the one before."""
        return list_trainings(self.training)

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
        """Return this model with traced networks if it is on a CPU, where that is faster for a few images."""
        if self.device.type != "cpu":
            return self
        x = torch.randn(2, *self.codec.shape(self.channels, self.image_size))
        net, timestep = self.denoiser.net, self.denoiser.schedule.timestep(torch.zeros(2)).float()
        traced = TracedNetwork(net.net, *net.inputs(x, timestep, None, None))
        denoiser = replace(self.denoiser, net=net.with_net(traced))
        return replace(self, denoiser=denoiser, weak=self.weak and self.weak.trace())

    def to(self, device: str | torch.device) -> "Model":
        """Return this model with its weights on ``device``."""
        net, codec = self.denoiser.net.to(device), self.codec.to(device)
        moved = replace(self, denoiser=replace(self.denoiser, net=net), codec=codec)
        classifier, weak = (part and part.to(device) for part in (self.noisy_classifier, self.weak))
        return replace(moved, noisy_classifier=classifier, weak=weak)


def list_trainings(training: dict | None) -> list[dict]:
    """Return the trainings of ``demo.json``, oldest first: those of the checkpoint that the last one started from, then it."""
    return [*training.get("earlier", []), {**training, "earlier": []}] if training else []


def find_teacher(training: dict | None, folder: Path | None, folders: Mapping[str, Path | None]) -> str | None:
    """Return the name, in ``folders``, of the checkpoint from which the model in ``folder`` was distilled, or None.

    ``training`` in ``demo.json`` tells its path. Another folder of the same name counts only beside the model's own, since
    both may have been moved together. A model without a folder is told by its name alone.
    """
    source = Path(str((training or {}).get("distill") or ""))
    if source.name not in folders:
        return None
    teacher = folders[source.name]
    alone = teacher is None or folder is None
    found = alone or teacher.resolve() in (source.resolve(), folder.resolve().with_name(source.name))
    return source.name if found else None


def suggest_sampling(label_names: Sequence[str]) -> Sampling:
    """Return the sampling settings of a model that was not measured yet: with some guidance, if it knows classes."""
    return Sampling(weight=1.0 if label_names else 0.0)


def refuse_distilled(model: Model, purpose: str) -> None:
    """Raise UserError for a distilled model, whose network is no denoiser, but takes its own steps from pure noise."""
    if model.distilled:
        raise UserError(
            f"{purpose} needs a denoiser for every noise level, but this distilled model only takes its own steps from pure "
            "noise: use the model that it was distilled from"
        )


def change_sampling(folder: Path, sampling: Sampling) -> None:
    """Write other default sampling settings to the checkpoint in ``folder``. Its samples at given settings stay the same."""
    path = folder / "demo.json"
    about = read_object(path) | {"sampling": sampling.as_dict()}
    write_atomically(path, (json.dumps(about, indent=2) + "\n").encode())


def save(model: Model, folder: str | Path) -> None:
    """Write the model to ``folder``. The old model remains until all parts of the new one are complete."""
    from diffusers import DDIMScheduler, DDPMScheduler

    schedule, prediction = model.denoiser.schedule, model.denoiser.prediction
    kind = DDIMScheduler if model.distilled else DDPMScheduler  # a distilled model takes only the steps of DDIM
    latent = isinstance(model.codec, LatentCodec)
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
    with replace_together(Path(folder)) as place:
        copy.deepcopy(model.denoiser.net.net).half().save_pretrained(place / "unet")
        kind(
            num_train_timesteps=len(schedule), trained_betas=schedule.betas.tolist(), prediction_type=prediction,
            clip_sample=model.codec.bounded, timestep_spacing="trailing",  # from the last timestep, as in Schedule.grid
        ).save_pretrained(place / "scheduler")  # fmt: skip
        if latent:
            write_vae(model.codec.vae, place)
        (place / "demo.json").write_text(json.dumps(about, indent=2) + "\n")


def load(source: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load the model of a folder, or of a Hub repository ``user/name`` or ``user/name@revision``, for sampling.

    Raises UserError if there is no such folder, or if it is not a valid checkpoint.
    """
    folder = locate(source)
    with explain_damage(source, "checkpoint"):
        return load_folder(folder).to(device)


def load_folder(folder: Path) -> Model:
    """Load the model of an existing folder. Raises UserError if it is not a checkpoint."""
    unet, scheduler = find_newest(folder, "unet"), find_newest(folder, "scheduler") / "scheduler_config.json"
    for path in (demo := find_newest(folder, "demo.json"), unet / "config.json", scheduler):
        if not path.is_file():
            raise UserError(f"{folder} is not a checkpoint: {path.relative_to(folder)} is missing")
    check_links(folder)
    about = read_about(demo)
    schedule, prediction = read_schedule(scheduler)
    distilled = Distilled(**about["distilled"]) if about["distilled"] else None
    names, size = tuple(about["label_names"]), about["image_size"]
    sampling = Sampling(**about["sampling"]) if about["sampling"] else suggest_sampling(names)
    shape = about["channels"], size, size
    codec = Codec(**about["codec"]) if about["codec"] else LatentCodec(load_vae(folder, size))
    adapter = load_adapter(unet, about["condition"], codec.shape(*shape[:2]))
    labels = distilled.count_rows(len(names)) - 1 if distilled else len(names)
    if adapter.num_classes != labels:
        raise UserError(
            f"{folder} is not a checkpoint: demo.json names {labels} labels, the network has {adapter.num_classes}"
        )
    continuous = (about["training"] or {}).get("time") == "continuous"
    model = Model(
        denoiser=Denoiser(adapter, ContinuousSchedule() if continuous else schedule, prediction),
        codec=codec,
        label_names=names,
        channels=about["channels"],
        image_size=size,
        dataset=about["dataset"],
        training=about["training"],
        # It classifies images, not latents.
        noisy_classifier=load_noisy(folder, shape, names) if about["codec"] else None,
        distilled=distilled,
        sampling=sampling,
    )
    return replace(model, weak=load_weak(folder / WEAK, model)) if (folder / WEAK).is_dir() else model


def load_weak(folder: Path, model: Model) -> Model:
    """Load the weaker model of a checkpoint. Raises UserError unless it denoises the same states for the same labels."""
    if (folder / WEAK).exists():
        raise UserError(f"{folder} has a weaker model of its own: delete {folder / WEAK}")
    weak = load_folder(folder)
    if model.takes_image or model.distilled or weak.takes_image or weak.distilled:
        raise UserError(
            f"{folder} cannot guide: autoguidance is for networks without an image input that are not distilled"
        )
    if not isinstance(model.codec, Codec) or weak.codec != model.codec:
        raise UserError(f"{folder} cannot guide: both models must diffuse the same pixels, not latents")
    for name in ("label_names", "channels", "image_size"):
        ours, others = getattr(model, name), getattr(weak, name)
        if ours != others:
            raise UserError(
                f"{folder} cannot guide: its {name} is {quote(others)}, that of the model is {quote(ours)}; they must be equal"
            )
    return weak


def load_adapter(folder: Path, condition: str, shape: tuple[int, int, int]) -> ClassAdded:
    """Load the network of a folder ``unet`` for x of ``shape`` (C, H, W), in its adapter.

    Raises UserError if the network is not for this shape, or not valid.
    """
    import diffusers

    net = build_on_meta(getattr(diffusers, ADAPTERS[condition].network), folder / "config.json")
    adapter = adapt(net, condition)
    if (net.config.sample_size, net.config.sample_size) != shape[1:]:
        raise UserError(
            f"{folder} is for x of size {net.config.sample_size}; demo.json describes x of shape {shape}, so their sizes "
            "must be equal"
        )
    check_call(folder / "config.json", lambda x: adapter(x, x.new_zeros(1)), shape, shape)
    # With channels_last, convolutions on a CPU need no reordering, and sampling is about 10% faster.
    read_weights(net, folder / WEIGHTS).to(memory_format=torch.channels_last)
    return adapter


def read_about(path: Path) -> dict:
    """Read ``demo.json``. Raises UserError for an entry that is missing or not valid."""
    about = {"condition": "add", "distilled": None, "sampling": {}} | read_object(path)  # older files lack these
    for name, (kind, words) in ENTRIES.items():
        if name not in about or not isinstance(about[name], kind):
            raise UserError(f"{path} has {name} = {quote(about.get(name))}; it must be {words}")
    check_names(path, about["label_names"])
    check_one_of(f"the condition in {path}", about["condition"], CONDITIONS)
    check_whole(f"the image_size in {path}", about["image_size"], SMALLEST_SIZE, LARGEST_SIZE)
    if about["channels"] not in CHANNELS:
        raise UserError(f"{path} has channels = {about['channels']}; they must be 1, gray, or 3, colour")
    if about["codec"]:
        if [*about["codec"]] != ["patch"]:
            raise UserError(f"{path} has codec = {quote(about['codec'])}; it must have the entry patch alone")
        check_whole(f"the patch in {path}", about["codec"]["patch"], 1, LARGEST_PATCH)
    return about


def read_schedule(path: Path) -> tuple[Schedule, str]:
    """Read the schedule and the kind of prediction of ``scheduler_config.json``.

    Raises UserError unless the schedule leads from more signal than noise to more noise than signal.
    """
    scheduler = read_object(path)
    betas = scheduler.get("trained_betas")
    numbers = isinstance(betas, list) and all(type(beta) in (int, float) and 0 < beta < 1 for beta in betas)
    if not numbers or not 2 <= len(betas) <= MOST_STEPS:
        raise UserError(
            f"{path} has trained_betas = {quote(betas)}; they must be 2 to {MOST_STEPS} numbers between 0 and 1"
        )
    schedule = Schedule(torch.tensor(betas, dtype=torch.float64))
    lowest, highest = schedule.range
    if not (schedule.log_snrs.isfinite().all() and schedule.log_snrs.diff().max() < 0 and lowest < 0 < highest):
        raise UserError(
            f"{path} has a schedule that cannot be used: its log-SNRs go from {highest:g} to {lowest:g}; they must be "
            "finite and decrease with every step, from above 0 to below 0"
        )
    return schedule, scheduler.get("prediction_type")


def check_links(folder: Path) -> None:
    """Raise UserError for a file of a checkpoint that is a link to a place outside of its folder.

    In the cache of the Hub, the files are links to the folder ``blobs`` of their repository.
    """
    home = folder.resolve()
    allowed = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in (path for part in PARTS for place in (part, f"{COMPLETE}/{part}") for path in folder.glob(place)):
        if not any(path.resolve().is_relative_to(place) for place in allowed):
            raise UserError(f"{path} is a link to a place outside of the checkpoint: replace it by the file itself")
