"""A reverse process as an animation: the noisy state beside the clean estimate.

``python -m ddpm_demo.generation.animation --checkpoint checkpoints/mnist --output denoising.webp`` draws the README's.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm_demo.data.images import noisy_panel, picture, save_animation, tiled
from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.generation.generate import sample
from ddpm_demo.models.checkpoint import Model, load


def noisy_image(step: Step) -> Tensor:
    """The noisy state of a step, to be looked at: an image under noise, or the tiles of its latents."""
    seen = noisy_panel(step.x, step.log_snr)
    return seen if step.latents is None else tiled(step.x, step.x0.shape[-1])


def side_by_side(step: Step, columns: int, height: int | None = None) -> Image.Image:
    """The noisy state on the left, the clean estimate on the right, of all images of a step."""
    panels = [picture(panel, columns, height) for panel in (noisy_image(step), step.x0)]
    both = Image.new(panels[1].mode, (panels[0].width * 2 + 12, panels[0].height), "white")
    for place, panel in enumerate(panels):
        both.paste(panel, (place * (panel.width + 12), 0))
    return both


def animate(model: Model, path: Path, weight: float = 1.0, steps: int = 30, rows: int = 2, seed: int = 0) -> None:
    """Save the reverse process (DDPM) of ``rows`` images of up to ten classes as an animation."""
    classes = min(10, len(model.label_names))
    labels = torch.arange(classes).repeat(rows).tolist()
    settings = {"labels": labels, "weight": weight} if classes else {"count": 10 * rows}
    walk = sample(model, **settings, sampler="ddpm", steps=steps, seed=seed)
    save_animation((side_by_side(step, classes or 10) for step in walk), path)


def main(arguments: list[str] | None = None) -> None:
    """Parse, load, animate."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.generation.animation", description="Animate a reverse process."
    )
    parser.add_argument("--checkpoint", default="checkpoints/mnist", help="a folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default="denoising.webp", help=".webp or .gif (default: %(default)s)")
    parser.add_argument("--weight", type=float, default=1.0, help="guidance weight w (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=2, help="images of every class (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    animate(load(options.checkpoint), options.output, options.weight, options.steps, options.rows, options.seed)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
