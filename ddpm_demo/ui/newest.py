"""The newest request of each kind from each page. It replaces an older one, whose computation and answers end.

Gradio's own cancellation ends whatever a page runs by the same function, so a cancellation that arrives late would end
the newer request.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import gradio as gr
from gradio.context import LocalContext

T = TypeVar("T")
MOST = 1000  # requests kept; a new one beyond them replaces the oldest


class Replaced(gr.Error):
    """Ends the answers of a request that was replaced or ended, and shows nothing.

    If the handler returned instead, Gradio would send its last answer again, or empty all outputs if there was none.
    """

    def __init__(self):
        super().__init__("a newer request replaced this one", visible=False, print_exception=False)


@dataclass(frozen=True, eq=False)
class Asked:
    """What a request asks for, and the name of its event in Gradio's queue."""

    what: object
    event: str | None


NEWEST: dict[tuple[str, int], Asked] = {}  # (kind, page) -> its newest request
REPLACED: set[str | None] = set()  # events whose request was replaced or ended, until its answers end
CHANGING = threading.RLock()  # held while either is changed; the end of an abandoned request may come within a change


def answer_newest(kind: str, request: gr.Request, answers: Iterator[T]) -> Iterator[T]:
    """Yield the answers to a request. Raises Replaced once the same page sends a newer request of this kind."""
    with begin(kind, request) as is_newest:
        for answer in answers:
            if not is_newest():
                raise Replaced
            yield answer


@contextmanager
def begin(kind: str, request: gr.Request, what: object = None) -> Iterator[Callable[[], bool]]:
    """Make a request the newest of its kind within the block. Yield a function that tells whether it still is.

    If a newer request has replaced it, a gr.Error within the block becomes Replaced: the computation was stopped.
    """
    name, asked = find_name(kind, request), Asked(what, LocalContext.event_id.get(None))
    with CHANGING:
        remove(name)
        NEWEST[name] = asked
        if len(NEWEST) > MOST:
            remove(next(iter(NEWEST)))
    try:
        yield lambda: NEWEST.get(name) is asked
    except gr.Error as error:
        if NEWEST.get(name) is asked:
            raise
        raise Replaced from error
    finally:
        with CHANGING:
            if NEWEST.get(name) is asked:
                del NEWEST[name]
            REPLACED.discard(asked.event)


def find(kind: str, request: gr.Request) -> object | None:
    """Return what the newest request of a kind from a page asks for; None if none is being answered."""
    asked = NEWEST.get(find_name(kind, request))
    return asked and asked.what


def end(kind: str, request: gr.Request, unless: object = None) -> None:
    """End the request of a kind from a page, if there is one, unless it asks for this."""
    with CHANGING:
        if unless is None or find(kind, request) != unless:
            remove(find_name(kind, request))


def remove(name: tuple[str, int]) -> None:
    """Remove the newest request of a kind and a page, so that it ends."""
    asked = NEWEST.pop(name, None)
    if asked:
        REPLACED.add(asked.event)


def was_replaced(event: str | None) -> bool:
    """Return whether the request of an event was replaced or ended."""
    return event in REPLACED


def find_name(kind: str, request: gr.Request) -> tuple[str, int]:
    """Return the key of a kind and a page. A page's session is text of any length that the client chose, so it is hashed."""
    return kind, hash(request.session_hash)
