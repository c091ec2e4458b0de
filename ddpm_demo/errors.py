"""The exception for a user's mistake, and the checks that raise it."""

from sys import float_info


class UserError(ValueError):
    """A user's mistake. The message names the value and what is allowed; commands print it without a traceback."""


def quote(value) -> str:
    """Return a value as it is written in Python, at most 80 characters of it, for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_one_of(name: str, value: str, allowed) -> None:
    """Raise UserError unless value is one of the allowed names."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name} is {quote(value)}; it must be one of {', '.join(allowed)}")


def is_finite(value) -> bool:
    """Return whether a value is a finite number (not bool), and no integer that is too large for a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= float_info.max


def check_between(name: str, value: float, lowest: float, highest: float) -> None:
    """Raise UserError unless value is a finite number (not bool) from lowest to highest."""
    if not is_finite(value):
        raise UserError(f"{name} is {quote(value)}; it must be a finite number")
    if not lowest <= value <= highest:
        raise UserError(f"{name} is {value}; it must lie between {lowest:g} and {highest:g}")


def check_whole(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise UserError unless value is an integer (not bool) from lowest to highest."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise UserError(f"{name} is {quote(value)}; it must be a whole number from {lowest} to {highest}")
