"""Messages and progress bars of commands that may run in several processes (``accelerate launch``)."""

import sys

from accelerate import PartialState
from tqdm import tqdm


def say(text: str) -> None:
    """Print the text, in the main process only."""
    if PartialState().is_main_process:
        print(text, flush=True)


def progress_bar(evaluations: int) -> tqdm:
    """Return a progress bar over so many network evaluations, shown in the main process only."""
    return tqdm(
        total=evaluations,
        unit=" evaluations",
        unit_scale=True,
        bar_format="{percentage:3.0f}%|{bar}| {elapsed} < {remaining}, {rate_fmt}",
        smoothing=0.1,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        disable=not PartialState().is_main_process,
    )
