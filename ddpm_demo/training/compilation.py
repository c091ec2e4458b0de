"""torch.compile, with a clear sentence where this machine cannot compile."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ddpm_demo.errors import UserError


@contextmanager
def report_missing_compiler() -> Iterator[None]:
    """Turn an error of torch.compile within the block into a UserError."""
    from torch._dynamo.exc import TorchDynamoException

    # The warnings are about code of diffusers, which is compiled correctly.
    warnings.filterwarnings("ignore", module=r"torch\._dynamo")
    try:
        yield
    except TorchDynamoException as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"the network could not be compiled ({reason}). --compile needs a C++ compiler and Python's header files "
            "(Debian: g++ and python3-dev): install them, or leave --compile out"
        ) from error


def check_compiler() -> None:
    """Raise UserError if a small function cannot be compiled."""
    with report_missing_compiler():
        torch.compile(lambda x: x + 1)(torch.zeros(8))
