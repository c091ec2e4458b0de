"""What a training run shows and leaves behind: the bar, metrics.jsonl, sample grids, the checkpoint, what to do next."""

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ddpm_demo.data.datasets import Data
from ddpm_demo.data.images import picture, strip
from ddpm_demo.errors import UserError
from ddpm_demo.generation.animation import animate
from ddpm_demo.models import checkpoint
from ddpm_demo.models.networks import count_parameters
from ddpm_demo.reports.card import write_card
from ddpm_demo.training.configuration import Settings
from ddpm_demo.training.loop import SAMPLE_COLUMNS, Progress

ROW_EVERY = 5  # seconds between rows of metrics.jsonl


class RunLog:
    """Takes the progress of a run on its main process."""

    def __init__(
        self, folder: Path, settings: Settings, data_dir: str, first_step: int, log_with: str, snapshots: bool
    ):
        if not first_step:  # a run that starts anew, perhaps over an older one
            for older in ("samples", "snapshots"):
                shutil.rmtree(folder / older, ignore_errors=True)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self.folder, self.settings, self.data_dir, self.snapshots = folder, settings, data_dir, snapshots
        self.metrics = folder / "metrics.jsonl"
        rows = self.metrics.read_text().splitlines(keepends=True) if first_step and self.metrics.exists() else []
        # A kill may have left a torn last row, and rows of steps that are about to be taken again.
        kept = [row for row in rows if row.endswith("}\n") and json.loads(row)["step"] <= first_step]
        self.metrics.write_text("".join(kept))
        self.board = tensorboard(folder) if log_with == "tensorboard" else None
        self.last_row = 0.0
        self.bar = tqdm(
            total=100,
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            miniters=0,
            mininterval=0.2 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )

    def introduce(self, images: Data, device: str, processes: int) -> None:
        """A sentence of what is about to happen."""
        chosen = self.settings
        budget = f"{chosen.epochs:g} epochs" if chosen.epochs else f"{chosen.minutes:g} minutes"
        kind = f"{len(images.label_names)} classes with guidance" if chosen.cfg else "unconditional"
        rim = f"latents of {chosen.latent}" if chosen.latent else f"{chosen.patch}x{chosen.patch} patches"
        self.bar.write(
            f"{chosen.dataset}: {len(images)} images, {kind}; U-Net {chosen.widths} on {rim}, "
            f"{chosen.schedule} schedule, {chosen.prediction}; {budget} on {processes} x {device}"
        )

    def record(self, progress: Progress) -> None:
        """Move the bar; now and then append a row; write the grid of samples where there is one."""
        left = time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
        self.bar.set_description_str(
            f"step {progress.step}  epoch {progress.epoch:.2f}  loss {progress.loss:.4f}  "
            f"{progress.images_per_second:.0f} images/s  {left} left",
            refresh=False,
        )
        self.bar.update(100 * progress.fraction - self.bar.n)
        if progress.samples is not None:
            path = self.folder / "samples" / f"step-{progress.step:06d}.png"
            picture(progress.samples, SAMPLE_COLUMNS, height=640).save(path)
            if self.snapshots:
                checkpoint.save(progress.model, self.folder / "snapshots" / path.stem)
            self.bar.write(f"step {progress.step}: held-out loss {progress.validation_loss:.4f}, samples in {path}")
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

    def finish(self, progress: Progress, held_out: Data) -> None:
        """Save the checkpoint; say how to go on after an interruption, and what to do with a finished model."""
        self.bar.close()
        checkpoint.save(progress.model, self.folder)
        picture(progress.samples, SAMPLE_COLUMNS, height=640).save(self.folder / "samples.png")
        strip(held_out.one_of_each()).save(self.folder / "examples.png")
        gray = progress.model.channels == 1
        animate(progress.model, self.folder / "denoising.webp", rows=2 if gray else 1)  # noise in colour is heavy
        for name in ("autoencoder.json", "reconstructions.png"):
            if self.settings.latent:
                shutil.copyfile(Path(self.settings.latent) / name, self.folder / name)
        write_card(self.folder)
        if self.board:
            self.board.close()
        folder, minutes = shlex.quote(str(self.folder)), progress.seconds / 60
        if progress.fraction < 1:
            data = "" if self.data_dir == "data" else f" --data-dir {shlex.quote(self.data_dir)}"
            print(f"stopped at step {progress.step}, everything is saved. Go on with:")
            print(f"  python train.py --resume --output-dir {folder}{data}")
            return
        size = count_parameters(progress.model.denoiser.net) / 1e6
        print(f"{size:.2f}M parameters, {progress.step} steps in {minutes:.1f} minutes, saved in {folder}. Next:")
        print(f"  python app.py --checkpoint {folder}")
        print(f"  python -m ddpm_demo.evaluation --checkpoint {folder} --data-dir {shlex.quote(self.data_dir)}")


def tensorboard(folder: Path):
    """A TensorBoard writer; UserError if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--log-with tensorboard needs TensorBoard: pip install tensorboard") from error
    return SummaryWriter(folder / "tensorboard")
