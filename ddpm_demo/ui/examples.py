"""Examples, so that no tab opens empty: a tab draws one with its first settings, which is kept for the next visitors."""

import hashlib
import json
from collections.abc import Callable, Iterator

import gradio as gr

from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.events import NETWORK
from ddpm_demo.ui.newest import Replaced, answer_newest

MOST_EXAMPLES = 32  # kept; one is a film or a grid of about 0.5 MB


def show_example(tab: gr.Tab, catalogue: Catalogue, run: Callable[..., Iterator[tuple]], inputs: list, outputs: list):
    """Fill the outputs when a visitor opens a tab for the first time, as the tab's own button would do.

    ``run`` is the handler of that button. Its last answer is kept for the next visitor with the same inputs. A request of
    the kind ``tab.elem_id`` ends the example. Returns the event of Gradio, which a button can stop.
    """
    opened = gr.State(False)

    nothing = [gr.skip()] * len(outputs)

    def draw(*values):
        yield True, *nothing  # at once, because an example that the visitor's own request replaces does not come again
        for answer in draw_example(catalogue, f"{tab.elem_id} {hash_inputs(values)}", lambda: run(*values)):
            yield True, *answer

    def open_tab(request: gr.Request, was_opened, *values):
        if was_opened:
            yield gr.skip(), *nothing
            return
        try:
            yield from answer_newest(tab.elem_id, request, draw(*values))
        except Replaced:
            raise
        except gr.Error:  # for instance, there is nothing on the pad yet; the visitor has not asked for anything
            yield True, *nothing

    return tab.select(open_tab, [opened, *inputs], [opened, *outputs], **NETWORK)


def hash_inputs(values: tuple) -> str:
    """Return a short text that differs for different values."""
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()


def draw_example(catalogue: Catalogue, name: str, run: Callable[[], Iterator[tuple]]) -> Iterator[tuple]:
    """Yield the answers of ``run``, or only the last one if the example called name was drawn before."""
    if name in catalogue.examples:
        yield catalogue.examples[name]
        return
    last: tuple = ()
    for answer in run():
        yield answer
        last = tuple(new if new != gr.skip() else old for old, new in zip(last or answer, answer))
    if last:
        while len(catalogue.examples) >= MOST_EXAMPLES:
            catalogue.examples.pop(next(iter(catalogue.examples)), None)
        catalogue.examples[name] = last
