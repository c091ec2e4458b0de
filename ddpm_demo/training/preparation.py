"""What a training needs before its first step, built from its configuration: codec, network, optimizer."""

from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import load
from ddpm_demo.models.codec import Codec, LatentCodec, load_vae
from ddpm_demo.models.networks import build_unet, use_plain_attention
from ddpm_demo.training.autoencoder import REPORT, SHEET
from ddpm_demo.training.configuration import TrainingConfiguration
from ddpm_demo.training.distillation import build_student, load_teacher
from ddpm_demo.training.muon import Muon


def load_codec(configuration: TrainingConfiguration) -> Codec | LatentCodec:
    """The codec between images and what is diffused; UserError if a file of the autoencoder is missing."""
    if not configuration.latent:
        return Codec(configuration.patch)
    folder = Path(configuration.latent)
    codec = LatentCodec(load_vae(folder))
    for name in (REPORT, SHEET):  # the checkpoint will hold copies of them
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: train the autoencoder again, with  python train.py --autoencoder --overwrite "
                f"--dataset {configuration.dataset} --output-dir {folder}"
            )
    return codec


def build_network(
    configuration: TrainingConfiguration,
    shape: tuple[int, int, int],
    label_names: tuple[str, ...],
    device: torch.device | str,
) -> nn.Module:
    """An untrained network for x of ``shape`` (C, H, W) and for the classes, on the device, with weights from the seed."""
    torch.manual_seed(configuration.seed)
    if configuration.distill:
        net = build_student(load_teacher(configuration.distill), label_names)
    else:
        net = build_unet(
            shape,
            configuration.widths,
            len(label_names),
            attention=configuration.attention,
            layers=configuration.layers,
            dropout=configuration.dropout,
            condition=configuration.condition,
        )
    if configuration.mixed_precision == "bf16" and torch.device(device).type == "cpu":
        use_plain_attention(net)
    # On a CPU, network calls are up to a tenth faster with this memory format.
    return net.to(device, memory_format=torch.channels_last)


def build_optimizer(configuration: TrainingConfiguration, net: nn.Module) -> Optimizer:
    """The optimizer of a network's weights."""
    adamw = {"lr": configuration.lr, "betas": (0.9, 0.99), "fused": True}
    if configuration.optimizer == "muon":
        return Muon(net, low_precision=configuration.mixed_precision == "bf16", **adamw)
    return AdamW(net.parameters(), **adamw)


def copy_weights(source: str, net: nn.Module) -> list[dict]:
    """Copy the weights of a checkpoint into a network, and return the trainings that made them, oldest first.

    UserError unless the two networks are built alike.
    """
    model = load(source)
    theirs = model.denoiser.net.net.state_dict()
    ours = {name: value.shape for name, value in net.state_dict().items()}
    if {name: value.shape for name, value in theirs.items()} != ours:
        raise UserError(
            f"the network of {source} is built otherwise: give the --widths, --layers, --patch, --condition and classes that "
            f"its card (README.md) names"
        )
    net.load_state_dict(theirs)
    return model.trainings
