"""Train another project's network for comparison: ``python -m ddpm_demo.experiments.peer --minutes 20 --data-dir DIR``.

The class-conditional U-Net of the Hugging Face diffusion course (unit 2, "diffusion for conditional generation"):
diffusers' UNet2DModel on 28x28 pixels, widths 32, 64, 64, attention at two levels, the class as four more channels;
epsilon prediction, squared-cosine schedule, Adam 1e-3, batch 128; sampling by diffusers' own DDPM and DDIM loops. The
command trains it for a number of minutes, measures it with our judge several times, and writes ``peer.json``.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_demo.data import datasets
from ddpm_demo.data.datasets import Data
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.judge import Judge, concatenate, judge_images
from ddpm_demo.files import SHIPPED, write_atomically
from ddpm_demo.models.classifier import load_classifier

BATCH, LEARNING_RATE, DDIM_STEPS = 128, 1e-3, 50
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}


class CourseUNet(nn.Module):
    """The course's ClassConditionedUnet: it predicts noise from pixels and the embedded class."""

    def __init__(self, num_classes: int = 10, class_channels: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, class_channels)
        self.net = UNet2DModel(
            sample_size=28,
            in_channels=1 + class_channels,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        """Return the predicted noise (N, 1, 28, 28) in x (N, 1, 28, 28); t is a number or (N,), label (N,)."""
        beside = self.embedding(label)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, beside], 1), t, return_dict=False)[0]


@torch.no_grad()
def sample(net: CourseUNet, label: Tensor, scheduler, steps: int, generator: torch.Generator) -> Tensor:
    """Return images (N, 1, 28, 28) of label (N,), drawn by diffusers' own loop."""
    x = torch.randn(len(label), 1, 28, 28, generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t, label), t, x, generator=generator).prev_sample
    return x.clamp(-1, 1)


def measure(net: CourseUNet, judge: Judge, scheduler, steps: int, count: int) -> dict:
    """Return the figures of ``count`` samples, and the seconds per sample."""
    labels, generator = torch.arange(count) % 10, torch.Generator().manual_seed(0)
    net.eval()
    began = time.perf_counter()
    drawn = [sample(net, part, scheduler, steps, generator) for part in labels.split(64)]
    seconds = (time.perf_counter() - began) / count
    figures = judge.measure(concatenate([judge_images(judge.classifier, part) for part in drawn]), labels)
    return figures | {"samples": count, "steps": steps, "seconds_per_image": seconds}


def train(net: CourseUNet, data: Data, moments: list[float]) -> Iterator[dict]:
    """Train, and yield {steps, seconds, batch_size} at each of ``moments`` (seconds of training, increasing)."""
    noising, optimizer = DDPMScheduler(**SCHEDULE), torch.optim.Adam(net.parameters(), LEARNING_RATE)
    seconds, steps = 0.0, 0
    with tqdm(
        total=round(moments[-1]),
        bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining} of training",
        mininterval=0.5 if sys.stderr.isatty() else 15,
    ) as bar:
        for moment in moments:
            net.train()
            while seconds < moment:
                began = time.perf_counter()
                train_step(net, data, noising, optimizer)
                taken = time.perf_counter() - began
                seconds, steps = seconds + taken, steps + 1
                bar.update(min(taken, bar.total - bar.n))
            yield {"steps": steps, "seconds": seconds, "batch_size": BATCH}


def train_step(net: CourseUNet, data: Data, noising: DDPMScheduler, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of training on a random batch."""
    chosen = torch.randint(len(data), (BATCH,))
    x0, label = data.batch(chosen)
    noise, t = torch.randn_like(x0), torch.randint(0, 999, (BATCH,))  # the course never draws t = 999
    loss = F.mse_loss(net(noising.add_noise(x0, noise, t), t, label), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def command_line() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.peer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=20.0, help="minutes of training (default: %(default)g)")
    add(
        "--measure-after",
        type=float,
        nargs="+",
        default=[5.0, 10.0],
        metavar="MINUTES",
        help="also measure after these minutes (default: 5 10)",
    )
    add("--samples", type=int, default=1024, help="images for each measurement (default: %(default)s)")
    add("--data-dir", default="data", help="folder of MNIST (default: %(default)s)")
    add(
        "--classifier",
        default=str(SHIPPED / "mnist"),
        help="folder of the judge (default: the shipped checkpoints/mnist)",
    )
    add("--output", type=Path, default=Path("peer.json"), help="file of the results (default: %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, measure and write the results. Returns the exit status."""
    options = command_line().parse_args(arguments)
    try:
        data, test = (datasets.load("mnist", options.data_dir, split) for split in ("train", "test"))
        judge = Judge(load_classifier(Path(options.classifier), data.label_names)[0], data, test)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    net, rows = CourseUNet(), []
    moments = sorted({60 * m for m in options.measure_after if m < options.minutes} | {60 * options.minutes})
    for training in train(net, data, moments):
        figures = measure(net, judge, DDIMScheduler(**SCHEDULE), DDIM_STEPS, options.samples)
        rows.append({"training": training, "setting": {"sampler": "ddim", "steps": DDIM_STEPS}, **figures})
        write_atomically(options.output, (json.dumps(rows, indent=1) + "\n").encode())
        rate = training["steps"] * BATCH / training["seconds"]
        tqdm.write(
            f"after {training['seconds'] / 60:.1f} minutes ({rate:.0f} images/s): {figures['accuracy']:.2%} classified as requested, "
            f"FID {figures['fid_test']:.3f} ({figures['reference']['fid_test']:.3f} for real images)"
        )
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
