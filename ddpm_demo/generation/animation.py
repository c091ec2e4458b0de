"""Animates the reverse process: the noisy state on the left and the clean estimate on the right.

The animation of the README was made with:

python -m ddpm_demo.generation.animation --checkpoint checkpoints/mnist --output denoising.webp
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import render_grid, save_animation, scale_noisy, tile_channels
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.errors import UserError
from ddpm_demo.files import SHIPPED
from ddpm_demo.generation.generate import sample
from ddpm_demo.models.checkpoint import Model, load


def render_noisy_state(step: Step) -> Tensor:
    """Render the noisy state of a step: as noisy images, or as tiles of the channels if latents are diffused."""
    scaled = scale_noisy(step.x, step.log_snr)
    return scaled if step.latents is None else tile_channels(step.x, step.x0.shape[-1])


def render_step(step: Step, columns: int) -> Image.Image:
    """Render the images of a step: the noisy state on the left, the clean estimate on the right."""
    panels = [render_grid(panel, columns) for panel in (render_noisy_state(step), step.x0)]
    both = Image.new(panels[1].mode, (panels[0].width * 2 + 12, panels[0].height), "white")
    for position, panel in enumerate(panels):
        both.paste(panel, (position * (panel.width + 12), 0))
    return both


def animate_sampling(
    model: Model, path: Path, weight: float = 1.0, steps: int = 30, rows: int = 2, seed: int = 0
) -> None:
    """Save an animation of the reverse process of ``rows`` images for each of up to ten classes.

    The sampler is DDPM; for a distilled model, it is its own, with as many steps as it takes at most.
    """
    classes = min(10, len(model.label_names))
    labels = torch.arange(classes).repeat(rows).tolist()
    settings = {"labels": labels, "weight": weight} if classes else {"count": 10 * rows}
    settings |= {"steps": model.distilled.steps[-1]} if model.distilled else {"sampler": "ddpm", "steps": steps}
    process = sample(model, **settings, seed=seed)
    save_animation((render_step(step, classes or 10) for step in process), path)


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, load the checkpoint and save the animation. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.generation.animation", description="Save an animation of the reverse process."
    )
    parser.add_argument(
        "--checkpoint",
        default=str(SHIPPED / "mnist"),
        help="a folder or a Hub id (default: the shipped checkpoints/mnist)",
    )
    parser.add_argument("--output", type=Path, default="denoising.webp", help=".webp or .gif (default: %(default)s)")
    parser.add_argument("--weight", type=float, default=1.0, help="guidance weight w (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=2, help="images per class (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        model = load(options.checkpoint)
        animate_sampling(model, options.output, options.weight, options.steps, options.rows, options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
