"""The state from which a training can be resumed: one safetensors file for each save, complete or not there at all."""

import itertools
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


def save_state(
    folder: Path, net: nn.Module, averages: list[EMAModel], optimizer: torch.optim.Optimizer, progress: dict
) -> Path:
    """Write ``folder/step-N.safetensors`` (N is ``progress["step"]``) and delete all but the last two.

    The bytes are written under a temporary name, which is then renamed, so a kill at any moment leaves the file before
    it untouched. Random states are not saved: every random number of step N comes from (seed, N).
    """
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    shadows = [value for average in averages for value in average.shadow_params]
    tensors |= {f"ema.{i}": value for i, value in enumerate(shadows)}
    tensors |= {
        f"optimizer.{i}.{name}": value
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{progress['step']:08d}.safetensors"
    write_atomically(path, save(tensors, {"progress": json.dumps(progress)}))
    for stale in [*list_states(folder)[:-KEEP], *folder.glob(".*.tmp")]:
        stale.unlink()
    return path


def load_state(folder: Path, net: nn.Module, averages: list[EMAModel], optimizer: torch.optim.Optimizer) -> dict | None:
    """Restore the newest state in place and return its ``progress``; None where nothing was saved yet."""
    newest = find_newest_state(folder)
    if newest is None:
        return None
    with safe_open(newest, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    number = itertools.count()
    for average in averages:
        average.shadow_params = [match_layout(p, tensors[f"ema.{next(number)}"]) for p in average.shadow_params]
        average.optimization_step = progress["step"]
    entries: dict[int, dict] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, key = name.split(".")
            p = parameters[int(i)]
            entries.setdefault(int(i), {})[key] = match_layout(p, value) if value.shape == p.shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
    return progress


def match_layout(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """``value`` on the parameter's device and with its strides, which the fused optimizer expects."""
    return torch.empty_like(parameter).copy_(value)


def read_progress(folder: Path) -> dict | None:
    """The ``progress`` of the newest state, without its tensors; None where there is no state."""
    newest = find_newest_state(folder)
    if newest is None:
        return None
    with safe_open(newest, "pt") as file:
        return json.loads(file.metadata()["progress"])


def find_newest_state(folder: Path) -> Path | None:
    """The newest state that can be read, or None. A damaged last state is the reason to keep the one before it."""
    for path in reversed(list_states(folder)):
        try:
            with safe_open(path, "pt"):
                return path
        except SafetensorError:
            print(f"note: {path} is damaged and is passed over", file=sys.stderr)
    return None


def list_states(folder: Path) -> list[Path]:
    """The files of saved states, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))
