"""No tab opens empty: each draws an example once, and shows it to every other visitor at once."""

import gradio as gr

from ddpm_demo.ui.examples import draw_example


def test_an_example_is_drawn_once(catalogue):
    runs = []

    def run():
        runs.append(1)
        yield "half a picture", "text"
        yield "picture", gr.skip()

    first = list(draw_example(catalogue, "draw", run))
    assert first == [("half a picture", "text"), ("picture", gr.skip())]
    assert list(draw_example(catalogue, "draw", run)) == [("picture", "text")]  # whole, and at once
    assert list(draw_example(catalogue, "another", run)) == first
    assert len(runs) == 2


def test_what_failed_is_not_kept(catalogue):
    def run():
        yield "half a picture", "text"
        raise gr.Error("stopped")

    for _ in range(2):
        try:
            list(draw_example(catalogue, "draw", run))
        except gr.Error:
            continue
        raise AssertionError("the error was lost")
    assert not catalogue.examples
