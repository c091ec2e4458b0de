"""What a training run shows and writes: progress bar, metrics.jsonl, sheets of samples, the checkpoint, next commands."""

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ddpm_demo.data.datasets import Data
from ddpm_demo.data.images import render_grid, render_row
from ddpm_demo.errors import UserError
from ddpm_demo.generation.animation import animate_sampling
from ddpm_demo.models import checkpoint
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.training.autoencoder import REPORT, SHEET
from ddpm_demo.training.command_line import RunOptions, command_to_resume
from ddpm_demo.training.configuration import TrainingConfiguration
from ddpm_demo.training.loop import SAMPLE_COLUMNS, Progress

ROW_EVERY = 5  # seconds between rows of metrics.jsonl


class RunLog:
    """Shows and records the progress of a run, on its main process.

    ``first_step`` is the step at which the run is resumed; 0 starts a new run, possibly over an older one.
    """

    def __init__(
        self,
        folder: Path,
        configuration: TrainingConfiguration,
        options: RunOptions,
        first_step: int = 0,
        processes: int = 1,
    ):
        # TensorBoard is opened first, since it may be missing.
        self.board = open_tensorboard(folder) if options.log_with == "tensorboard" else None
        if not first_step:
            for older in ("samples", "snapshots", "averages"):
                shutil.rmtree(folder / older, ignore_errors=True)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self.folder, self.configuration, self.options, self.processes = folder, configuration, options, processes
        self.metrics = folder / "metrics.jsonl"
        rows = self.metrics.read_text().splitlines(keepends=True) if first_step and self.metrics.exists() else []
        # A kill may have left an incomplete last row, and rows of steps that will be taken again.
        kept = [row for row in rows if row.endswith("}\n") and json.loads(row)["step"] <= first_step]
        self.metrics.write_text("".join(kept))
        self.last_row = 0.0
        self.bar = tqdm(
            total=100,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            miniters=0,
            mininterval=0.2 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )

    def introduce(self, images: Data, device: str) -> None:
        """Print a sentence about the training that begins."""
        chosen = self.configuration
        budget = f"{chosen.epochs:g} epochs" if chosen.epochs else f"{chosen.minutes:g} minutes"
        kind = f"{len(images.label_names)} classes with guidance" if chosen.cfg else "unconditional"
        kind = f"distilled from {chosen.distill}" if chosen.distill else kind
        diffused = f"latents of {chosen.latent}" if chosen.latent else f"{chosen.patch}x{chosen.patch} patches"
        self.bar.write(
            f"{chosen.dataset}: {len(images)} images, {kind}; U-Net {chosen.widths} on {diffused}, "
            f"{chosen.schedule} schedule, {chosen.prediction}; {budget} on {self.processes} x {device}"
        )

    def record(self, progress: Progress) -> None:
        """Move the progress bar, append a row to metrics.jsonl every few seconds, and save the samples if there are any."""
        self.move_bar(progress)
        if progress.samples is not None:
            self.save_samples(progress)
        elif time.perf_counter() - self.last_row < ROW_EVERY:
            return
        self.last_row = time.perf_counter()
        names = ("step", "epoch", "seconds", "loss", "validation_loss", "images_per_second")
        row = {name: getattr(progress, name) for name in names}
        with open(self.metrics, "a") as file:
            file.write(json.dumps(row) + "\n")
        for name in ("loss", "validation_loss", "images_per_second"):
            if self.board and row[name] is not None:
                self.board.add_scalar(name, row[name], progress.step)

    def move_bar(self, progress: Progress) -> None:
        """Move the progress bar to the fraction of the budget that is spent."""
        left = time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
        self.bar.set_description_str(
            f"step {progress.step}  epoch {progress.epoch:.2f}  loss {progress.loss:.4f}  "
            f"{progress.images_per_second:.0f} images/s  {left} left",
            refresh=False,
        )
        self.bar.update(100 * progress.fraction - self.bar.n)

    def save_samples(self, progress: Progress) -> None:
        """Save the sheet of samples and, if asked for, the weights that drew it."""
        path = self.folder / "samples" / f"step-{progress.step:06d}.png"
        render_grid(progress.samples, SAMPLE_COLUMNS, height=640).save(path)
        if self.options.snapshots:
            checkpoint.save(progress.model, self.folder / "snapshots" / path.stem)
        self.bar.write(f"step {progress.step}: held-out loss {progress.validation_loss:.4f}, samples in {path}")

    def finish(self, progress: Progress, held_out: Data) -> None:
        """Save the checkpoint and its images, and close the log."""
        self.bar.close()
        checkpoint.save(progress.model, self.folder)
        for decay, model in progress.others.items():
            checkpoint.save(model, self.folder / "averages" / f"{decay:g}")
        render_grid(progress.samples, SAMPLE_COLUMNS, height=640).save(self.folder / "samples.png")
        render_row(held_out.one_of_each()).save(self.folder / "examples.png")
        gray = progress.model.channels == 1
        # Noise in colour compresses badly, so there is only one row of it.
        animate_sampling(progress.model, self.folder / "denoising.webp", rows=2 if gray else 1)
        encoder = Path(self.configuration.latent or self.folder)
        if encoder.resolve() != self.folder.resolve():
            for name in (REPORT, SHEET):
                shutil.copyfile(encoder / name, self.folder / name)
        if self.board:
            self.board.close()

    def print_next(self, progress: Progress) -> None:
        """Print how to continue after an interruption, or what to do with a finished model."""
        if progress.fraction < 1:
            print(f"stopped at step {progress.step}, everything is saved. Go on with:")
            print(f"  {command_to_resume(self.folder, self.options, self.processes)}")
            return
        folder, data_dir = shlex.quote(str(self.folder)), shlex.quote(self.options.data_dir)
        size, minutes = count_parameters(progress.model.denoiser.net) / 1e6, progress.seconds / 60
        print(f"{size:.2f}M parameters, {progress.step} steps in {minutes:.1f} minutes, saved in {folder}. Next:")
        print(f"  python app.py --checkpoint {folder}")
        print(f"  python -m ddpm_demo.evaluation samples --checkpoint {folder} --data-dir {data_dir}")


def open_tensorboard(folder: Path):
    """A TensorBoard writer; UserError if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--log-with tensorboard needs TensorBoard: pip install tensorboard") from error
    return SummaryWriter(folder / "tensorboard")
