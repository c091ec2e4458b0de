"""Resumable training state: one safetensors file a save, whole or not there at all."""

import json
import sys
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ddpm_demo.files import write_atomically

KEEP = 2


def save_state(folder: Path, net: nn.Module, ema: EMAModel, optimizer: torch.optim.Optimizer, progress: dict) -> Path:
    """Write ``folder/step-N.safetensors`` (N is ``progress["step"]``) and drop all but the last two.

    The bytes reach the disk under a temporary name and are swapped in, so a kill at any moment leaves the file
    before it untouched. Random states need no room here: every random number of step N comes from (seed, N).
    """
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"ema.{i}": value for i, value in enumerate(ema.shadow_params)}
    tensors |= {
        f"optimizer.{i}.{name}": value
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{progress['step']:08d}.safetensors"
    write_atomically(path, save(tensors, {"progress": json.dumps(progress)}))
    for stale in [*saved_states(folder)[:-KEEP], *folder.glob(".*.tmp")]:
        stale.unlink()
    return path


def load_state(folder: Path, net: nn.Module, ema: EMAModel, optimizer: torch.optim.Optimizer) -> dict | None:
    """Restore the newest state in place and return its ``progress``; None where nothing was saved yet."""
    newest = newest_whole(folder)
    if newest is None:
        return None
    with safe_open(newest, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    ema.shadow_params = [laid_out_like(p, tensors[f"ema.{i}"]) for i, p in enumerate(ema.shadow_params)]
    ema.optimization_step = progress["step"]
    entries: dict[int, dict] = {}
    parameters = list(net.parameters())
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            p = parameters[int(i)]
            entries.setdefault(int(i), {})[key] = laid_out_like(p, value) if value.shape == p.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return progress


def laid_out_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """``value`` on the parameter's device and with its strides: the fused optimizer takes both as given."""
    return torch.empty_like(parameter).copy_(value)


def read_progress(folder: Path) -> dict | None:
    """The newest state's ``progress`` alone, None where there is none."""
    newest = newest_whole(folder)
    if newest is None:
        return None
    with safe_open(newest, "pt") as file:
        return json.loads(file.metadata()["progress"])


def newest_whole(folder: Path) -> Path | None:
    """The newest state that can be read: the one before it is kept for the case that a disk damaged the last."""
    for path in reversed(saved_states(folder)):
        try:
            with safe_open(path, "pt"):
                return path
        except SafetensorError:
            print(f"note: {path} is damaged and is passed over", file=sys.stderr)
    return None


def saved_states(folder: Path) -> list[Path]:
    """Saved states, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))
