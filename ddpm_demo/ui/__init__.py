"""The app, one file per tab. No mathematics here: handlers check settings and yield what the floors below offer."""

import gradio as gr

from ddpm_demo.checkpoint import Model
from ddpm_demo.ui import generate

CSS = """
.layout { display: grid !important; gap: 1rem 1.5rem; align-items: start;
  grid-template: "pick view" auto "tune view" 1fr / minmax(20rem, 2fr) 3fr; }
.layout .pick { grid-area: pick; } .layout .view { grid-area: view; } .layout .tune { grid-area: tune; }
@media (max-width: 48rem) { .layout { grid-template: "pick" "view" "tune" / minmax(0, 1fr); } }
.viewer figure { margin: 0; }
.viewer .panels { display: flex; flex-wrap: wrap; gap: 1rem; }
.viewer .panel { flex: 1 1 9rem; min-width: 0; }
.viewer img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; background: #000; }
.viewer .meaning { font-size: .85rem; margin: .35rem 0 0; color: var(--body-text-color-subdued); }
.viewer .meaning b { color: var(--body-text-color); }
.viewer progress { width: 100%; height: .35rem; margin-top: .8rem; border: 0; border-radius: 4px; overflow: hidden;
  appearance: none; background: var(--border-color-primary); }
.viewer progress::-webkit-progress-bar { background: var(--border-color-primary); }
.viewer progress::-webkit-progress-value { background: var(--color-accent); }
.viewer progress::-moz-progress-bar { background: var(--color-accent); }
.viewer .numbers { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin-top: .3rem;
  font-variant-numeric: tabular-nums; }
.viewer .source { font-size: .85rem; margin-top: .5rem; color: var(--body-text-color-subdued); }
.viewer .numbers span { color: var(--body-text-color-subdued); }
.classes .wrap { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(3.6rem, 1fr)); gap: .35rem; }
.classes label { justify-content: center; padding: .45rem .3rem !important; }
.classes label input { position: absolute; opacity: 0; width: 1px; }
.classes label span { margin: 0 !important; white-space: nowrap; }
.classes label:focus-within { outline: 2px solid var(--color-accent); outline-offset: 1px; }
footer { display: none !important; }
"""
# Fonts of the machine itself: the page must work offline.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def build(model: Model) -> gr.Blocks:
    """The whole app for one model."""
    with gr.Blocks(title="ddpm-demo: watch noise become an image", analytics_enabled=False) as demo:
        what = "handwritten digits (MNIST)" if model.dataset == "mnist" else f"images ({model.dataset})"
        gr.Markdown(
            f"# Watch noise become an image\nA small diffusion model, trained on {what}, starts from pure noise and "
            "removes it step by step. Pick what to draw and how; every step below is computed live, on this machine."
        )
        generate.build(demo, model)
    return demo.queue(max_size=32, default_concurrency_limit=4)


def launch_options() -> dict:
    """Look and limits, which Gradio takes at launch."""
    return {
        "css": CSS,
        "theme": gr.themes.Soft(primary_hue="indigo", **FONTS),
        "max_threads": 8,
        "max_file_size": "1mb",
        "footer_links": [],
    }
