"""The app's checkpoints, in a real browser: digits, photographs, latents, each drawn and each with its own classes."""

import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from browser import ROOMS, browser, canvas_bytes, finished, open_tab, page, player, room, shot, state  # noqa: F401 some are fixtures
from conftest import Server, tiny_model
from PIL import Image

from ddpm_demo.models import checkpoint

HARM = '<img src=x onerror="window.harmed = 1"><a href=there>here'


def switch(page, name: str) -> dict:
    """Choose a checkpoint; the state of the run that follows."""
    before = finished(page)["run"]
    page.get_by_role("tab", name="Generate").click()
    page.get_by_label("Checkpoint").click()
    page.get_by_role("option", name=name, exact=True).click()
    return finished(page, after=before)


def panels(page) -> list[str]:
    return player(page).locator("canvas[data-panel]").evaluate_all("all => all.map(e => e.dataset.panel)")


def colours(page) -> int:
    """How many different colours the clean estimate has, grays left out."""
    return (
        player(page)
        .locator("canvas[data-panel=x0]")
        .evaluate(
            """e => { const d = e.getContext("2d").getImageData(0, 0, e.width, e.height).data, seen = new Set();
                  for (let i = 0; i < d.length; i += 4) if (d[i] != d[i+1] || d[i] != d[i+2]) seen.add(d[i] * 65536 + d[i+1] * 256 + d[i+2]);
                  return seen.size; }"""
        )
    )


@pytest.mark.slow
def test_from_digits_to_photographs_to_latents_and_back(page):
    finished(page)
    assert colours(page) == 0
    for name, shown in (
        ("cifar10", ["x", "x0", "eps", "guidance"]),
        ("cifar10-latent", ["x", "latents", "x0", "guidance"]),
        ("mnist", ["x", "x0", "eps", "guidance"]),
    ):
        run = switch(page, name)
        assert json.loads(run["settings"])["checkpoint"] == name and panels(page) == shown
        page.get_by_role("button", name="Tour").click()  # it leaves out the noise pad where no distilled model is
        page.locator("#tour .count", has_text="1 of 5" if name == "cifar10-latent" else "1 of 6").wait_for()
        page.keyboard.press("Escape")
        choices = room(page, "Generate").locator(".classes label").all_inner_texts()
        assert [choice.strip() for choice in choices] == (
            [*"0123456789", "all 10"]
            if name == "mnist"
            else [
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "all 10",
            ]
        )  # fmt: skip
        assert (colours(page) > 500) == (name != "mnist")
        if name != "mnist":
            before = state(page)["run"]
            page.get_by_label("frog", exact=True).first.check()
            page.get_by_role("button", name="Generate").click()
            frog = finished(page, after=before)
            assert json.loads(frog["settings"])["class_label"] == "frog"
        shot(page, f"checkpoint-{name}")
        open_tab(page, "Evidence")
        room(page, "Evidence").locator(f".facts[data-checkpoint='checkpoints/{name}']").wait_for()
        shot(page, f"evidence-{name}")
        open_tab(page, "Generate")
    assert page.problems == [] and page.foreign == []


@pytest.mark.slow
def test_what_runs_where_is_told_of_each(page):
    switch(page, "cifar10-latent")
    told = room(page, "Generate").locator(".where[data-latent=true]")
    told.wait_for()
    assert "8×8×8 = 512 numbers" in told.inner_text() and "decoder" in told.inner_text()
    switch(page, "mnist")
    room(page, "Generate").locator(".where[data-latent=false]").wait_for(state="attached")


@pytest.mark.slow
def test_a_small_image_is_enlarged(page):
    """Only where the network takes an image beside x is it offered; the result is in colour."""
    finished(page)
    switch(page, "mnist")
    open_tab(page, "Draw")
    assert room(page, "Draw").get_by_label("Enlarge it").count() == 0
    switch(page, "cifar10-image")
    open_tab(page, "Draw")
    example = finished(page, "Draw")["run"]
    room(page, "Draw").get_by_label("Enlarge it").check()
    room(page, "Draw").get_by_role("button", name="Go").click()
    shown = finished(page, "Draw", after=example)
    assert json.loads(shown["settings"])["task"] == "Enlarge it"
    page.wait_for_timeout(500)
    shot(page, "enlarged")
    open_tab(page, "Generate")
    switch(page, "mnist")


@pytest.mark.slow
def test_a_link_to_another_checkpoint_opens_all_of_it(server, browser):
    """Its run, its classes, its own page of what runs where, and in the other tabs what belongs to it."""
    other = browser.new_page()
    other.goto(server.url + "/?checkpoint=cifar10-latent&class_label=ship&steps=5")
    shown = finished(other)
    assert json.loads(shown["settings"])["class_label"] == "ship"
    assert panels(other) == ["x", "latents", "x0", "guidance"]
    assert other.get_by_label("ship", exact=True).first.is_checked()
    room(other, "Generate").locator(".where[data-latent=true]").wait_for()
    open_tab(other, "Evidence")
    room(other, "Evidence").locator(".facts[data-checkpoint='checkpoints/cifar10-latent']").wait_for()
    other.close()


def toast(page) -> str:
    """The text of the message that the page shows, after a check that it has no element of its own."""
    message = page.get_by_test_id("toast-text").first
    message.wait_for()
    assert message.locator("*").count() == 0
    return message.inner_text()


def test_a_link_cannot_put_markup_into_the_page(server, browser):
    other = browser.new_page()
    other.goto(f"{server.url}/?class_label={quote(HARM)}")
    assert HARM[:40] in toast(other)
    assert other.locator("img[src=x]").count() == 0 and other.evaluate("window.harmed") is None
    other.close()


@pytest.mark.slow
def test_the_text_of_a_checkpoint_is_shown_as_text(browser, tmp_path):
    """Names of classes, of the dataset, of the folder and of its files, in every tab and in an error message."""
    folder = tmp_path / HARM
    checkpoint.save(replace(tiny_model(), label_names=(HARM, "b", "c"), dataset=HARM), folder)
    server = Server(DDPM_CHECKPOINT=str(folder))
    other = browser.new_page()
    other.goto(server.url)
    finished(other)
    assert HARM in room(other, "Generate").locator(".classes").inner_text()
    for tab in ROOMS:
        open_tab(other, tab)
        room(other, tab).wait_for()
    room(other, "Evidence").locator(".facts").wait_for()
    assert room(other, "Evidence").locator(".facts").inner_text().count(HARM) == 1
    (folder / "samples").mkdir()
    Image.new("L", (64, 64)).save(folder / "samples" / f"step-{HARM}.png")
    open_tab(other, "Generate")
    open_tab(other, "Evidence")
    assert HARM[:40] in toast(other)
    assert other.locator("img[src=x]").count() == 0 and other.evaluate("window.harmed") is None
    other.close()
    server.stop()
