"""Builds networks from files of unknown origin. Everything is checked before memory is allocated for it."""

import json
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ddpm_demo.errors import UserError, quote

MOST_BYTES = 2**24  # of a JSON file
MOST_ITEMS, MOST_NUMBER = 16, 16384  # of a list in config.json, and of a number in it
MOST_LAYERS = {"layers_per_block": 8, "transformer_layers_per_block": 4}  # each layer takes time to build
MOST_PARAMETERS = 500_000_000  # 2 GB in float32
MOST_OPERATIONS = 10**12  # floating-point operations of one network call for one image: ten seconds or more on a CPU
MOST_VALUES = 2**27  # numbers in one intermediate result for one image: 512 MiB in float32
WEIGHTS = "diffusion_pytorch_model.safetensors"  # the file name of diffusers
MOST_CLASSES, LONGEST_NAME = 1000, 255
FLOATS = ("F16", "BF16", "F32")


@contextmanager
def explain_damage(path: str | Path, kind: str) -> Iterator[None]:
    """Raise UserError for any error inside, because diffusers, safetensors and json raise different exceptions."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise UserError(f"{path} is not a {kind} that can be loaded ({reason})") from error


def read_object(path: Path) -> dict:
    """Read a JSON file. Raises ValueError if it is not JSON, UserError if it is too large or contains no object."""
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} contains {quote(value)}; it must be an object")
    return value


def build_on_meta(network: type[nn.Module], path: Path) -> nn.Module:
    """Build a diffusers network from its config.json on the meta device, where weights take no memory.

    Raises UserError for a configuration that is not one of this network, or whose network would be too large.
    """
    config = read_object(path)
    if config.get("_class_name") != network.__name__:
        name = quote(config.get("_class_name"))
        raise UserError(f"{path} describes the network {name}; it must be {network.__name__}")
    check_numbers(path, config)
    with torch.device("meta"):
        net = network.from_config(config)
    check_size(path, net)
    return net.eval().requires_grad_(False)


def check_numbers(path: Path, config: dict) -> None:
    """Raise UserError for a long list or a large number, because such a network would take long to build."""
    for name, value in config.items():
        limit = MOST_LAYERS.get(name, MOST_NUMBER)
        for part in walk_nested(value):
            long = isinstance(part, list | dict) and len(part) > MOST_ITEMS
            if long or (isinstance(part, int | float) and not abs(part) <= limit):
                raise UserError(
                    f"{path} is not a file that is safe to load: it has {name} = {quote(value)}; at most "
                    f"{MOST_ITEMS} values of at most {limit} are allowed"
                )


def walk_nested(value) -> Iterator:
    """Yield a value of JSON, and every value inside it."""
    yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk_nested(part)


def check_size(path: Path, net: nn.Module) -> None:
    """Raise UserError for a network with too many parameters."""
    count = sum(parameter.numel() for parameter in net.parameters())
    if count > MOST_PARAMETERS:
        raise UserError(
            f"{path} is not a file that is safe to load: its network has {count:,} parameters; at most {MOST_PARAMETERS:,} are allowed"
        )


def check_names(path: Path, names) -> None:
    """Raise UserError unless ``names`` are at most 1000 different, short texts, the names of classes."""
    texts = isinstance(names, list) and all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in names)
    if not texts or len(names) > MOST_CLASSES or len(set(names)) < len(names):
        raise UserError(
            f"{path} has label_names = {quote(names)}; they must be a list of at most "
            f"{MOST_CLASSES} different texts of 1 to {LONGEST_NAME} characters"
        )


class CostMeter(TorchDispatchMode):
    """Counts the floating-point operations of the tensors inside, and the numbers of the largest result."""

    def __init__(self):
        super().__init__()
        self.operations, self.values = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operation and count it."""
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.operations += count(*args, **(kwargs or {}), out_val=result)
        if isinstance(result, Tensor):
            self.values = max(self.values, result.numel())
        return result


def check_call(path: Path, call: Callable[[Tensor], Tensor], given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Call a network of the meta device, for one image of shape ``given`` (C, H, W), and check the result and the cost.

    Raises UserError if the result has another shape than ``expected``, or if the call would take too much time or memory.
    """
    with torch.no_grad(), CostMeter() as meter:
        result = call(torch.empty(1, *given, device="meta"))
    if tuple(result.shape[1:]) != tuple(expected):
        raise UserError(
            f"{path} describes a network with results of shape {tuple(result.shape[1:])}; they must have shape {expected}"
        )
    if meter.operations > MOST_OPERATIONS or meter.values > MOST_VALUES:
        raise UserError(
            f"{path} is not a file that is safe to load: one call of its network takes {meter.operations:.1e} operations and "
            f"intermediate results of {meter.values:,} numbers; at most {MOST_OPERATIONS:.0e} and {MOST_VALUES:,} are "
            "allowed"
        )


def read_header(path: Path) -> tuple[dict[str, tuple[tuple[int, ...], str]], dict[str, str]]:
    """Return the (shape, type) of each tensor of a safetensors file, and the texts of its header. Reads no tensor."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with safe_open(path, "pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        tensors = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
        return tensors, file.metadata() or {}


def read_weights(net: nn.Module, path: Path) -> nn.Module:
    """Fill a network of the meta device with the weights of a safetensors file, in float32; return the network.

    Raises UserError if the names, shapes or types in the header of the file do not fit the network, or for weights that
    are not finite.
    """
    wanted = net.state_dict()
    check_header(path, read_header(path)[0], wanted)
    tensors = {}
    with safe_open(path, "pt") as file:
        for name, like in wanted.items():
            tensors[name] = file.get_tensor(name).to(like.dtype, copy=True)
            if not bool(tensors[name].isfinite().all()):
                raise UserError(f"{path} has weights that are not finite numbers in {name}: the file is damaged")
    net.load_state_dict(tensors, assign=True)
    return net


def check_header(path: Path, found: dict[str, tuple[tuple[int, ...], str]], wanted: dict[str, Tensor]) -> None:
    """Raise UserError if the tensors of a file do not have the names, shapes and types of the ``wanted`` ones."""
    if other := sorted(wanted.keys() ^ found.keys()):
        which = "does not have" if other[0] in wanted else "has"
        raise UserError(
            f"{path} does not fit its network: it {which} the tensor {quote(other[0])}, one of {len(other)} differences"
        )
    for name, like in wanted.items():
        shape, kind = found[name]
        kinds = FLOATS if like.is_floating_point() else ("I64",)
        if shape != tuple(like.shape) or kind not in kinds:
            raise UserError(
                f"{path} does not fit its network: {name} has shape {quote(shape)} and type {kind}; it must have shape "
                f"{tuple(like.shape)} and type {' or '.join(kinds)}"
            )
