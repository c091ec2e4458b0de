"""Writes Markdown tables."""

from collections.abc import Iterable, Sequence


def write_table(heads: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """Return a table with these heads. A cell is text, or None if it has no meaning in its row."""
    return "\n".join([write_row(heads), "|---" * len(heads) + "|", *map(write_row, rows)])


def write_row(cells: Sequence[str | None]) -> str:
    """Return the cells of a row between vertical bars."""
    return "".join("| " if cell is None else f"| {cell} " for cell in cells) + "|"
