"""The app, one file per tab. No mathematics here: handlers check settings and yield what the floors below offer."""

import gradio as gr

from ddpm_demo.ui.catalogue import Catalogue
from ddpm_demo.ui.components import charts
from ddpm_demo.ui.tabs import compare, draw, evidence, generate, small_steps
from ddpm_demo.ui.tabs import forward_process as forward
from ddpm_demo.ui.tabs import latent_space as latent
from ddpm_demo.ui.tabs import what_runs_where as where

CSS = """
.layout { display: grid !important; gap: 1rem 1.5rem; align-items: start;
  grid-template: "pick view" auto "tune view" 1fr / minmax(20rem, 2fr) 3fr; }
.layout .pick { grid-area: pick; } .layout .view { grid-area: view; } .layout .tune { grid-area: tune; }
@media (max-width: 48rem) { .layout { grid-template: "pick" "view" "tune" / minmax(0, 1fr); } }
.hint, .remark { color: var(--body-text-color-subdued); } .remark { min-height: 2.6em; }
.classes .wrap { display: flex !important; flex-wrap: wrap; gap: .35rem; }
.classes label { justify-content: center; padding: .45rem .6rem !important; min-width: 3.6rem; }
.classes label input { position: absolute; opacity: 0; width: 1px; }
.classes label span { margin: 0 !important; white-space: nowrap; }
.classes label:focus-within { outline: 2px solid var(--color-accent); outline-offset: 1px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1rem; }
.cards figure { margin: 0; } .cards img { width: 100%; image-rendering: pixelated; border-radius: 4px; }
.cards figcaption { font-size: .85rem; margin-top: .35rem; color: var(--body-text-color-subdued); line-height: 1.4; }
.cards.where { max-width: 60rem; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); }
.cards.pair { max-width: 20rem; margin-top: 1rem; }
.cards b { color: var(--body-text-color); }
.sentence { max-width: 46rem; } .reading .chart { max-width: 34rem; } .missing { color: var(--body-text-color-subdued); }
.drag svg[data-low] { cursor: ew-resize; touch-action: none; user-select: none; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem 2rem; margin: .3rem 0 1rem; } .facts dd { margin: 0; }
.facts dt { font-size: .8rem; color: var(--body-text-color-subdued); }
.measured .scroll { overflow-x: auto; } .measured td, .measured th { padding: .2rem .7rem; text-align: right;
  font-size: .85rem; white-space: nowrap; }
.nearest { margin: 1rem 0; } .nearest img { width: 100%; max-width: 35rem; image-rendering: pixelated; border-radius: 4px; }
.nearest figcaption { max-width: 46rem; margin-top: .4rem; font-size: .9rem; }
.measured .here { outline: 2px solid var(--color-accent); }
footer { display: none !important; }
"""
# Fonts of the machine itself: the page must work offline.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def build(catalogue: Catalogue) -> gr.Blocks:
    """The whole app for the checkpoints at hand."""
    with gr.Blocks(title="ddpm-demo: watch noise become an image", analytics_enabled=False) as demo:
        gr.Markdown(
            "# Watch noise become an image\nA small diffusion model starts from pure noise and removes it step by "
            "step. Everything below is computed live, on this machine."
        )
        with gr.Tabs():
            with gr.Tab("Generate", id="generate", elem_id="tab-generate"):
                chosen = generate.build(demo, catalogue)
                where.build(catalogue, chosen["checkpoint"])
            with gr.Tab("Forward process", id="forward", elem_id="tab-forward"):
                forward.build(catalogue, chosen["checkpoint"])
            with gr.Tab("Compare", id="compare", elem_id="tab-compare"):
                compare.build(catalogue, chosen)
            with gr.Tab("Draw", id="draw", elem_id="tab-draw"):
                draw.build(catalogue, chosen["checkpoint"])
            with gr.Tab("Latent space", id="latent", elem_id="tab-latent"):
                latent.build(catalogue, chosen["checkpoint"])
            with gr.Tab("Why small steps?", id="small-steps", elem_id="tab-small-steps"):
                small_steps.build()
            with gr.Tab("Evidence", id="evidence", elem_id="tab-evidence") as measured:
                evidence.build(measured, catalogue, chosen)
    return demo.queue(max_size=32, default_concurrency_limit=4)


def launch_options() -> dict:
    """Look and limits, which Gradio takes at launch."""
    return {
        "css": CSS + charts.CSS,
        "theme": gr.themes.Soft(primary_hue="indigo", **FONTS),
        "max_threads": 8,
        "max_file_size": "1mb",
        "show_error": True,
        "footer_links": [],
    }
