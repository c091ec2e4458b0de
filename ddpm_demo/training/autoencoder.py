"""The autoencoder of latent diffusion (Rombach et al. 2022, section 3.1).

``python train.py --autoencoder --dataset cifar10`` trains it; ``--latent`` then diffuses what it makes of the images.
"""

import json
import time
from collections.abc import Callable, Iterator
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirrored
from ddpm_demo.data.images import picture
from ddpm_demo.errors import UserError
from ddpm_demo.files import write_atomically
from ddpm_demo.models.codec import CHUNK, VAE, LatentCodec, load_vae, save_vae
from ddpm_demo.models.networks import count_parameters

REPORT = "autoencoder.json"  # beside a checkpoint's demo.json
LATENT_CHANNELS, WIDTHS = 8, (32, 64, 64)  # a quarter of the size: 3,072 numbers of a 32x32 image become 512
# Of the Kullback-Leibler term, nats a number of the image, against the squared error: just enough that the latents stay
# a cloud without holes. A perceptual or an adversarial term would need a network that was trained elsewhere.
KL_WEIGHT = 1e-3
WARMUP_STEPS = 100


def autoencoder(channels: int, size: int) -> nn.Module:
    """An untrained AutoencoderKL: images (N, channels, size, size), [-1, 1], to latents (N, 8, size / 4, size / 4)."""
    from diffusers import AutoencoderKL

    levels = len(WIDTHS)
    if size % 2 ** (levels - 1):
        raise UserError(f"image size is {size}; for an autoencoder it must be a multiple of {2 ** (levels - 1)}")
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=WIDTHS,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=size,
        scaling_factor=1.0,  # the latents have variance 1 by themselves: see ``standardise``
    )


def train(
    vae: nn.Module,
    data: Data,
    minutes: float,
    flip: bool = False,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    low_precision: bool = False,
) -> Iterator[tuple[float, float]]:
    """Train in place by the clock; yields (fraction of the minutes, squared error a pixel) every step.

    The loss is the squared error a pixel plus ``KL_WEIGHT`` times KL(q(z | image) || N(0, I)) a pixel (Kingma & Welling
    2014, eq. 7).
    """
    torch.manual_seed(seed)
    device = next(vae.parameters()).device
    optimizer = torch.optim.AdamW(vae.parameters(), lr, betas=(0.9, 0.99), fused=True)
    began, step, order = time.perf_counter(), 0, torch.empty(0, dtype=torch.int64)
    while (fraction := (time.perf_counter() - began) / (60 * minutes)) < 1:
        if len(order) < min(batch_size, len(data)):
            order = torch.randperm(len(data))
        chosen, order = order[:batch_size], order[batch_size:]
        images = data.batch(chosen)[0].to(device)
        images = mirrored(images) if flip else images
        with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
            posterior = vae.encode(images).latent_dist
            error = F.mse_loss(vae.decode(posterior.sample()).sample.float(), images)
        optimizer.zero_grad()
        (error + KL_WEIGHT * posterior.kl().float().mean() / images[0].numel()).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / WARMUP_STEPS) * (1 + cos(pi * fraction)) / 2
        optimizer.step()
        step += 1
        yield fraction, error.item()


@torch.no_grad()
def standardise(vae: nn.Module, data: Data, count: int = 5000) -> None:
    """Give every latent channel mean 0 and variance 1 over the data, without changing what is decoded.

    Latents come out of a 1x1 convolution and go into another; both absorb the change, so other software needs no
    factor to know of.
    """
    latents = LatentCodec(vae).encode(data.batch(torch.linspace(0, len(data) - 1, min(count, len(data))).long())[0])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after, c = vae.quant_conv, vae.post_quant_conv, len(mean)
    before.bias[:c] -= mean
    before.weight[:c] /= std.reshape(-1, 1, 1, 1)
    before.bias[:c] /= std
    before.bias[c:] -= 2 * std.log()  # of the log-variances, which follow the means
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std.reshape(1, -1, 1, 1)


@torch.no_grad()
def reconstructed(codec: LatentCodec, data: Data, what: str = "reconstructing") -> Tensor:
    """All images of a dataset (N, C, H, W), [-1, 1], encoded and decoded, on the CPU."""
    parts = tqdm(torch.arange(len(data)).split(CHUNK), what, leave=False, disable=None)
    return torch.cat([codec.decode(codec.encode(data.batch(part)[0])).cpu() for part in parts])


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images (N, C, H, W) in [-1, 1], in decibels, the mean over the images."""
    return peak_signal_noise_ratio(images, originals, data_range=2.0, dim=(1, 2, 3))


def learn(
    data: Data,
    held_out: Data,
    folder: Path,
    *,
    minutes: float,
    flip: bool = False,
    seed: int = 0,
    resume: bool = False,
    low_precision: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Train with a bar, standardise, and write ``vae/`` and ``autoencoder.json`` into the folder; returns a sentence.

    ``resume`` goes on from the one in the folder; ``stop()`` ends early, and what was learned is written.
    """
    vae = load_vae(folder) if resume else autoencoder(data.images.shape[1], data.images.shape[-1])
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    vae = vae.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    began = time.perf_counter()
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}  {desc}", mininterval=1) as bar:
        mean = None
        for fraction, error in train(vae, data, minutes, flip, seed=seed, low_precision=low_precision):
            mean = error if mean is None else mean + 0.02 * (error - mean)
            bar.set_description_str(f"squared error {mean:.5f}", refresh=False)
            bar.update(100 * fraction - bar.n)
            if stop():
                break
    seconds = time.perf_counter() - began
    standardise(vae.eval(), data)
    codec = LatentCodec(vae)
    back = reconstructed(codec, held_out)
    originals = held_out.batch(torch.arange(len(held_out)))[0]
    told = {
        "psnr": psnr(back, originals).item(), "test_images": len(held_out), "parameters": count_parameters(vae),
        "latents": codec.shape(*originals.shape[1:3]), "seconds": round(seconds, 1),
    }  # fmt: skip
    save_vae(vae, folder)
    write_atomically(folder / REPORT, (json.dumps(told, indent=1) + "\n").encode())
    rows = torch.arange(len(held_out))[:: max(1, len(held_out) // 10)][:10]
    picture(torch.cat([originals[rows], back[rows]]), len(rows), gap=0).save(folder / "reconstructions.png")
    return f"{told['psnr']:.2f} dB on {len(held_out)} test images; written to {folder / VAE}, see reconstructions.png"
