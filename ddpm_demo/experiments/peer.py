"""What a user would pick instead, for comparison: ``python -m ddpm_demo.experiments.peer --minutes 20 --data-dir DIR``.

The class-conditional U-Net of the Hugging Face diffusion course (unit 2, "diffusion for conditional generation"):
diffusers' UNet2DModel on 28x28 pixels, widths 32, 64, 64, attention at two levels, the class as four more channels;
epsilon prediction, squared-cosine schedule, Adam 1e-3, batch 128; sampled by diffusers' own DDPM and DDIM loops. The
command trains it for a while by the clock, measures it with our judge on the way, and writes ``peer.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_demo.data import datasets as data
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation.judge import Judge, joined, read
from ddpm_demo.files import write_atomically
from ddpm_demo.models.classifier import load_classifier

BATCH, LEARNING_RATE, DDIM_STEPS = 128, 1e-3, 50
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}


class CourseUNet(nn.Module):
    """The course's ClassConditionedUnet: noisy pixels and an embedded class, side by side, to predicted noise."""

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
        """x (N, 1, 28, 28), t a number or (N,), label (N,) to noise like x."""
        beside = self.embedding(label)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, beside], 1), t, return_dict=False)[0]


@torch.no_grad()
def sample(net: CourseUNet, label: Tensor, scheduler, steps: int, generator: torch.Generator) -> Tensor:
    """Images (N, 1, 28, 28) by diffusers' own loop."""
    x = torch.randn(len(label), 1, 28, 28, generator=generator)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t, label), t, x, generator=generator).prev_sample
    return x.clamp(-1, 1)


def measure(net: CourseUNet, judge: Judge, scheduler, steps: int, count: int) -> dict:
    """Figures of ``count`` samples, and the seconds that one took."""
    labels, generator = torch.arange(count) % 10, torch.Generator().manual_seed(0)
    net.eval()
    began = time.perf_counter()
    drawn = [sample(net, part, scheduler, steps, generator) for part in labels.split(64)]
    seconds = (time.perf_counter() - began) / count
    figures = judge.measure(joined([read(judge.classifier, part) for part in drawn]), labels)
    return figures | {"samples": count, "steps": steps, "seconds_per_image": seconds}


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, measure, write. Returns the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.peer", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of training (default: %(default)g)")
    parser.add_argument("--measure-after", type=float, nargs="+", default=[5.0, 10.0], metavar="MINUTES",
                        help="measure on the way, too (default: 5 10)")  # fmt: skip
    parser.add_argument("--samples", type=int, default=1024, help="images a measurement (default: %(default)s)")
    parser.add_argument("--data-dir", default="data", help="where MNIST is (default: %(default)s)")
    parser.add_argument("--classifier", default="checkpoints/mnist", help="the judge's folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default="peer.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        train, test = (data.load("mnist", options.data_dir, split) for split in ("train", "test"))
        judge = Judge(load_classifier(Path(options.classifier))[0], train, test)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    net, noising = CourseUNet(), DDPMScheduler(**SCHEDULE)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    rows, seconds, steps = [], 0.0, 0
    moments = sorted({60 * m for m in options.measure_after if m < options.minutes} | {60 * options.minutes})
    style = "{percentage:3.0f}%|{bar}| {elapsed} < {remaining} of training"
    often = 0.5 if sys.stderr.isatty() else 15
    with tqdm(total=round(moments[-1]), bar_format=style, mininterval=often) as bar:
        for moment in moments:
            net.train()
            while seconds < moment:
                began = time.perf_counter()
                chosen = torch.randint(len(train), (BATCH,))
                x0, label = train.batch(chosen)
                noise, t = torch.randn_like(x0), torch.randint(0, 999, (BATCH,))
                loss = F.mse_loss(net(noising.add_noise(x0, noise, t), t, label), noise)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                taken = time.perf_counter() - began
                seconds, steps = seconds + taken, steps + 1
                bar.update(min(taken, bar.total - bar.n))
            figures = measure(net, judge, DDIMScheduler(**SCHEDULE), DDIM_STEPS, options.samples)
            told = {"steps": steps, "seconds": seconds, "batch_size": BATCH}
            rows.append({"training": told, "setting": {"sampler": "ddim", "steps": DDIM_STEPS}, **figures})
            write_atomically(options.output, (json.dumps(rows, indent=1) + "\n").encode())
            bar.write(
                f"after {seconds / 60:.1f} minutes ({steps * BATCH / seconds:.0f} images/s): {figures['accuracy']:.2%} read "
                f"as asked, FID {figures['fid_test']:.3f} ({figures['reference']['fid_test']:.3f} for real images)"
            )
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
