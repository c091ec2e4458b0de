"""The one exception for a user's mistake, and the checks that raise it. The commands print its sentence alone."""

from math import isfinite


class UserError(ValueError):
    """What came, what is allowed, what to do, in a sentence or two."""


def check_one_of(name: str, value: str, allowed) -> None:
    """UserError unless value is one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def check_between(name: str, value: float, lowest: float, highest: float) -> None:
    """UserError unless value is a finite number (bool excluded) from lowest to highest."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise UserError(f"{name} is {value!r}; it must be a finite number")
    if not lowest <= value <= highest:
        raise UserError(f"{name} is {value}; it must lie between {lowest:g} and {highest:g}")


def check_whole(name: str, value: int, lowest: int, highest: int) -> None:
    """UserError unless value is an integer (bool excluded) from lowest to highest."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UserError(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}")
