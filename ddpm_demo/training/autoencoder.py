"""The autoencoder of latent diffusion (Rombach et al. 2022, section 3.1).

``python train.py --autoencoder --dataset cifar10`` trains it; ``--latent`` then diffuses the latents of the images.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio
from tqdm import tqdm

from ddpm_demo.data.datasets import Data, mirror_at_random
from ddpm_demo.data.images import render_grid
from ddpm_demo.errors import UserError
from ddpm_demo.files import read_json, write_atomically
from ddpm_demo.models.codec import CHUNK, VAE, LatentCodec, load_vae, save_vae
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.training.configuration import TrainingConfiguration
from ddpm_demo.training.learning_rate import set_learning_rate, warm_up_and_decay

REPORT, SHEET = "autoencoder.json", "reconstructions.png"  # beside a checkpoint's demo.json
LATENT_CHANNELS, WIDTHS = 8, (32, 64, 64)  # a quarter of the size: 3,072 numbers of a 32x32 image become 512
# The weight of the Kullback-Leibler term, in nats for each number of an image, against the squared error: just enough
# that the latents fill their space. A perceptual or an adversarial term would need a network that was trained elsewhere.
KL_WEIGHT = 1e-3
PEAK_RATE, WARMUP_STEPS = 2e-3, 100
MOST_ENCODED = 5000  # images that the statistics of the latents are measured on


def build_autoencoder(channels: int, size: int) -> nn.Module:
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
        scaling_factor=1.0,  # the latents have variance 1 by themselves: see ``standardise_latents``
    )


def train(
    vae: nn.Module,
    data: Data,
    minutes: float,
    flip: bool = False,
    batch_size: int = 64,
    seed: int = 0,
    low_precision: bool = False,
) -> Iterator[tuple[float, float]]:
    """Train in place by the clock; yields (fraction of the minutes, mean squared error of a pixel) every step.

    The loss is the mean squared error of a pixel plus ``KL_WEIGHT`` times KL(q(z | image) || N(0, I)), divided by the
    number of pixels (Kingma & Welling 2014, eq. 7).
    """
    torch.manual_seed(seed)
    device = next(vae.parameters()).device
    optimizer = torch.optim.AdamW(vae.parameters(), PEAK_RATE, betas=(0.9, 0.99), fused=True)
    began, step, order = time.perf_counter(), 0, torch.empty(0, dtype=torch.int64)
    while (fraction := (time.perf_counter() - began) / (60 * minutes)) < 1:
        if len(order) < min(batch_size, len(data)):
            order = torch.randperm(len(data))
        chosen, order = order[:batch_size], order[batch_size:]
        images = data.batch(chosen)[0].to(device)
        images = mirror_at_random(images) if flip else images
        with torch.autocast(device.type, torch.bfloat16, enabled=low_precision):
            posterior = vae.encode(images).latent_dist
            error = F.mse_loss(vae.decode(posterior.sample()).sample.float(), images)
        optimizer.zero_grad()
        (error + KL_WEIGHT * posterior.kl().float().mean() / images[0].numel()).backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        set_learning_rate(optimizer, warm_up_and_decay(PEAK_RATE, step, fraction, WARMUP_STEPS))
        optimizer.step()
        step += 1
        yield fraction, error.item()


@torch.no_grad()
def standardise_latents(vae: nn.Module, data: Data) -> None:
    """Give every latent channel mean 0 and variance 1 over the data, without changing what is decoded.

    Latents leave the encoder through a 1x1 convolution and enter the decoder through another. Both absorb the change,
    so other software needs no scaling factor.
    """
    latents = LatentCodec(vae).encode(
        data.batch(torch.linspace(0, len(data) - 1, min(MOST_ENCODED, len(data))).long())[0]
    )
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after, c = vae.quant_conv, vae.post_quant_conv, len(mean)
    before.bias[:c] -= mean
    before.weight[:c] /= std.reshape(-1, 1, 1, 1)
    before.bias[:c] /= std
    before.bias[c:] -= 2 * std.log()  # the second half of the outputs are the log-variances
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std.reshape(1, -1, 1, 1)


@torch.no_grad()
def reconstruct(codec: LatentCodec, data: Data) -> Tensor:
    """Encode and decode all images of a dataset: (N, C, H, W), [-1, 1], on the CPU."""
    parts = tqdm(torch.arange(len(data)).split(CHUNK), "reconstructing", leave=False, disable=None)
    return torch.cat([codec.decode(codec.encode(data.batch(part)[0])).cpu() for part in parts])


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images (N, C, H, W) in [-1, 1], in decibels, the mean over the images."""
    return peak_signal_noise_ratio(images, originals, data_range=2.0, dim=(1, 2, 3))


def learn(
    data: Data,
    held_out: Data,
    folder: Path,
    configuration: TrainingConfiguration,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Train with a progress bar, standardise the latents, and write the results into the folder; returns a sentence.

    ``vae/``, ``autoencoder.json`` and ``reconstructions.png`` are written. Of the configuration, ``minutes``, ``flip``,
    ``seed`` and ``mixed_precision`` are used. ``resume`` continues the training of the autoencoder in the folder.
    ``stop()`` ends the training early, and what was learned is written.
    """
    vae = load_vae(folder) if resume else build_autoencoder(data.images.shape[1], data.images.shape[-1])
    earlier = read_earlier_seconds(folder) if resume else 0.0
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    vae = vae.train().requires_grad_(True).to(device, memory_format=torch.channels_last)
    began = time.perf_counter()
    steps = train(
        vae,
        data,
        configuration.minutes,
        configuration.flip,
        seed=configuration.seed,
        low_precision=configuration.mixed_precision == "bf16",
    )
    follow(steps, stop)
    seconds = earlier + time.perf_counter() - began
    standardise_latents(vae.eval(), data)
    report = write_results(vae, held_out, folder, seconds)
    return f"{report['psnr']:.2f} dB on {len(held_out)} test images; written to {folder / VAE}, see reconstructions.png"


def read_earlier_seconds(folder: Path) -> float:
    """Read how long the autoencoder of a folder was trained; UserError if its report is missing."""
    report = read_json(folder / REPORT)
    if not report:
        raise UserError(
            f"{folder / REPORT} is missing, so it is not known how long this autoencoder was trained: start anew with "
            "--overwrite"
        )
    return report["seconds"]


def follow(steps: Iterator[tuple[float, float]], stop: Callable[[], bool]) -> None:
    """Run a training to its end, or until ``stop()``, with a progress bar that shows the running mean of the error."""
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}  {desc}", mininterval=1) as bar:
        mean = None
        for fraction, error in steps:
            mean = error if mean is None else mean + 0.02 * (error - mean)
            bar.set_description_str(f"squared error {mean:.5f}", refresh=False)
            bar.update(100 * fraction - bar.n)
            if stop():
                break


def write_results(vae: nn.Module, held_out: Data, folder: Path, seconds: float) -> dict:
    """Write the autoencoder, its report and its reconstructions of held-out images into the folder; the report."""
    codec = LatentCodec(vae)
    back = reconstruct(codec, held_out)
    originals = held_out.batch(torch.arange(len(held_out)))[0]
    report = {
        "psnr": psnr(back, originals).item(),
        "test_images": len(held_out),
        "parameters": count_parameters(vae),
        "latents": codec.shape(*originals.shape[1:3]),
        "seconds": round(seconds, 1),
    }
    save_vae(vae, folder)
    write_atomically(folder / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    rows = torch.arange(len(held_out))[:: max(1, len(held_out) // 10)][:10]
    render_grid(torch.cat([originals[rows], back[rows]]), len(rows), gap=0).save(folder / SHEET)
    return report
