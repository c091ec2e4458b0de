"""Builds the page with all tabs, and defines the options of its launch."""

import logging
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components.player import read_component
from ddpm_demo.ui.controls import build_checkpoint
from ddpm_demo.ui.events import RUNNING
from ddpm_demo.ui.preview import TITLE, add_preview
from ddpm_demo.ui.requests import Page, limit_body
from ddpm_demo.ui.tabs import (
    compare_tab,
    draw_tab,
    evidence_tab,
    forward_tab,
    generate_tab,
    latent_tab,
    noise_tab,
    playground_tab,
    small_steps_tab,
    stages_section,
)
from ddpm_demo.ui.theme import build_theme
from ddpm_demo.ui.turns import CLOSING

HERE = Path(__file__).parent
STYLES = (HERE / "app.css", HERE / "components/charts.css", HERE / "tabs/evidence.css")
SESSIONS = 50  # Gradio keeps the state of so many open pages and API clients, 0.4 MB each; its default is 10,000
KEPT_SECONDS = 3600  # a picture that Gradio wrote for a client is deleted after this time
# For answers that are being sent, and for the whole end of the server. Open pages keep streams, for which it would wait.
SECONDS_TO_SEND, SECONDS_TO_CLOSE = 0.3, 1.5


def build(catalogue: Catalogue) -> gr.Blocks:
    """Build the whole app for the checkpoints of the catalogue."""
    with Page(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as demo:
        with gr.Row(elem_id="masthead"):
            gr.Markdown("# See through a diffusion model")
            gr.HTML(None, **read_component("tour"), elem_id="tour")
            checkpoint = build_checkpoint(catalogue)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:  # app.css makes this bar scroll
            with gr.Tab("Generate", id="generate", elem_id="tab-generate"):
                layout = generate_tab.build(demo, catalogue, checkpoint)
                controls = layout.controls
                stages_section.build(catalogue, checkpoint)
            with gr.Tab("Forward process", id="forward", elem_id="tab-forward"):
                forward_tab.build(catalogue, checkpoint)
            with gr.Tab("Playground", id="playground", elem_id="tab-playground"):
                playground_tab.build()
            with gr.Tab("Compare", id="compare", elem_id="tab-compare") as tab:
                compare_tab.build(tab, catalogue, controls)
            with gr.Tab("Draw", id="draw", elem_id="tab-draw") as tab:
                draw_tab.build(tab, catalogue, checkpoint)
            with gr.Tab("Noise pad", id="noise", elem_id="tab-noise"):
                noise_tab.build(catalogue, checkpoint, layout, tabs)
            with gr.Tab("Latent space", id="latent", elem_id="tab-latent") as tab:
                latent_tab.build(tab, catalogue, checkpoint)
            with gr.Tab("Why small steps?", id="small-steps", elem_id="tab-small-steps"):
                small_steps_tab.build()
            with gr.Tab("Evidence", id="evidence", elem_id="tab-evidence") as tab:
                evidence_tab.build(tab, catalogue, controls)
    # api_open: a request that does not join the queue could not be stopped.
    return demo.queue(max_size=32, default_concurrency_limit=4, api_open=False)


def launch_options() -> dict:
    """Return the styles, theme and limits, which Gradio takes at launch."""
    return {
        "css": "".join(path.read_text() for path in STYLES),
        "theme": build_theme(),
        "favicon_path": HERE / "favicon.png",
        "max_threads": RUNNING + 8,  # the handlers without a network need threads as well
        "max_file_size": "1mb",
        "app_kwargs": {"middleware": [Middleware(limit_body), Middleware(add_preview)]},
        "state_session_capacity": SESSIONS,
        "show_error": True,
        "footer_links": [],
    }


def close(demo: gr.Blocks) -> None:
    """Stop the server of a launched app, and delete its files. Every computation ends at its next network call."""
    CLOSING.set()
    logging.getLogger("uvicorn.error").disabled = True  # it would print a traceback for the stream of every open page
    demo.server.config.timeout_graceful_shutdown = SECONDS_TO_SEND
    closing = threading.Thread(target=demo.close, args=[False], daemon=True)  # it may wait for a network call to end
    closing.start()
    closing.join(SECONDS_TO_CLOSE)
