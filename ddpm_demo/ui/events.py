"""Attaches handlers: without progress display, in the queue of the network, or as a named endpoint of the API."""

from collections.abc import Callable

import gradio as gr

# Handlers that compute with a network share one queue. So many run at the same time: they only take turns, but a request
# must be among them to get a turn.
RUNNING = 40
QUIET = {"show_progress": "hidden", "api_visibility": "private"}
NETWORK = QUIET | {"concurrency_id": "network", "concurrency_limit": RUNNING}
# Otherwise Gradio would drop a request while an older one of the same handler runs. newest.py ends the older one.
NETWORK |= {"trigger_mode": "multiple"}
AT_ONCE = QUIET | {"queue": False}
# Gradio checks and converts each value in a thread of its own. A handler that checks them itself is faster without that.
UNCHANGED = {"preprocess": False, "postprocess": False}
NEWEST_LAST = QUIET | {"trigger_mode": "always_last"}  # changes during an answer get one answer, to the newest


def stop_with(button: gr.Button, *started) -> None:
    """Make a button stop the handlers in ``started``.

    A button that also starts a handler must get that handler later: Gradio stops nothing before an earlier one has ended.
    """
    button.click(None, None, None, cancels=list(started), queue=False, api_visibility="private")


def add_endpoint(
    name: str, handler: Callable, inputs: list, outputs: list, description: str, queue: str | None = "network"
) -> None:
    """Offer a handler as the endpoint ``name``. Its parameters have the names of the handler's parameters.

    ``inputs`` and ``outputs`` are components that were built with ``render=False``. They are placed invisibly. The controls
    of the page are not used, because they would refuse a wrong value with messages of Gradio.
    """
    with gr.Row(visible=False):
        for component in (*inputs, *outputs):
            component.render()
        gr.Button().click(
            handler,
            inputs,
            outputs,
            api_name=name,
            concurrency_id=queue,
            concurrency_limit=RUNNING if queue == NETWORK["concurrency_id"] else "default",
            api_description=description,
        )
