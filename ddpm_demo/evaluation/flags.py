"""Flags of the command line for the fields of ``Sampling``, and the settings that they ask for."""

import argparse
from dataclasses import Field, fields

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.evaluation.maps import combine


def add_sampling_flags(parser: argparse.ArgumentParser, *, several: bool, **defaults: list) -> None:
    """Add a flag for every field of ``Sampling``, which takes ``several`` values or one; the interval is one pair.

    ``defaults`` are lists of values that replace the defaults of the fields.
    """
    group = parser.add_argument_group("settings", "every combination of the values is measured" if several else None)
    for field in fields(Sampling):
        pair = isinstance(field.default, tuple)
        default = defaults.get(field.name, list(field.default) if pair else [field.default])
        written = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in default)
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=default,
            help=f"{field.metadata['meaning']} (default: {written})",
            nargs=2 if pair else "+" if several else 1,
            **type_of_value(field),
        )


def type_of_value(field: Field) -> dict:
    """The type and the allowed names of a field's values, as keywords of ``add_argument``."""
    if isinstance(field.default, tuple):
        return {"type": type(field.default[0]), "metavar": ("LOW", "HIGH")}
    if "names" in field.metadata:
        return {"choices": list(field.metadata["names"])}
    return {"type": type(field.default), "metavar": "N" if isinstance(field.default, int) else "X"}


def read_settings(options: argparse.Namespace) -> list[Sampling]:
    """Every combination of the values of the flags. UserError for a value that is not allowed."""
    axes = {}
    for field in fields(Sampling):
        values = getattr(options, field.name)
        axes[field.name] = [tuple(values)] if isinstance(field.default, tuple) else values
    return combine(axes)
