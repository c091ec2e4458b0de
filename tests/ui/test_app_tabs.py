"""The other tabs in a real headless browser, and all of them on a phone."""

import json
import re

import pytest
from browser import (  # noqa: F401 some are fixtures
    PATIENCE,
    ROOMS,
    browser,
    finished,
    number,
    open_tab,
    page,
    player,
    room,
    shot,
    state,
)
from PIL import Image


def test_forward_process(page):
    open_tab(page, "Forward process")
    cards = room(page, "Forward process").locator(".cards figure")
    assert cards.count() == 4
    before = cards.first.locator("img").get_attribute("src")
    number(page, "Timestep t", 900)
    page.get_by_text("At t = 900").first.wait_for()
    assert cards.first.locator("img").get_attribute("src") != before
    page.get_by_role("button", name="Real image 8").first.click()
    page.wait_for_function("(old) => document.querySelector('.cards img').src !== old", arg=before)
    page.get_by_role("button", name="Repeat with new noise").click()
    page.get_by_text("901 single steps and one jump").wait_for()
    shot(page, "forward")


@pytest.mark.slow
def test_compare_fills_and_opens_a_cell(page):
    open_tab(page, "Compare")
    panel = room(page, "Compare")
    panel.get_by_label("Down").click()
    page.get_by_role("option", name="class", exact=True).click()
    panel.get_by_role("button", name="Fill the grid").click()
    panel.get_by_text("30 of 30 cells").wait_for(timeout=3 * PATIENCE)
    assert panel.locator("td img").count() == 30
    panel.get_by_role("button", name="Open in the player: class 4, steps 8").click()
    shown = finished(page, "Compare")
    assert json.loads(shown["settings"])["class_label"] == "4" and json.loads(shown["settings"])["steps"] == 8
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save the grid").click()
    with Image.open(download.value.path()) as image:
        assert image.width > 400
    shot(page, "compare")


def test_a_line_wipes_between_two_runs_of_the_grid(page):
    """Left of the line the picture is that of run A, right of it that of run B, in what the browser paints."""
    open_tab(page, "Compare")
    panel = room(page, "Compare")
    panel.get_by_role("button", name="1 step or 20").click()
    panel.get_by_text("8 of 8 cells").wait_for()
    assert panel.locator(".name").all_inner_texts() == ["A · steps 1", "B · steps 20"]
    picture, line = panel.locator(".picture"), panel.get_by_role("slider", name="Line between A and B")
    zoom = picture.bounding_box()["width"] / 28
    assert zoom >= 10 and zoom == int(zoom)

    def painted(share: float, side: str) -> bytes:
        """The pixels left or right of the middle, while the line is at this share of the width."""
        box = picture.bounding_box()
        line.fill(f"{share}")
        left = {"left": 0.25, "right": 0.55}[side]
        clip = {"x": box["x"] + left * box["width"], "y": box["y"] + 0.2 * box["height"]}
        return page.screenshot(clip=clip | {"width": 0.2 * box["width"], "height": 0.2 * box["height"]})

    picture.scroll_into_view_if_needed()
    for side, run, other in (("left", 100, 0), ("right", 0, 100)):
        assert painted(50, side) == painted(run, side) != painted(other, side)
    box = picture.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 9)
    assert line.input_value() == "25" and line.evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert line.input_value() == "26"
    shot(page, "wipe")

    second = panel.locator(".half").nth(1)
    finished_run = second.evaluate("e => e.toDataURL()")
    panel.get_by_role("slider", name="Progress of both runs").fill("0")
    assert second.evaluate("e => e.toDataURL()") != finished_run
    panel.get_by_label("Run B, right of the line").select_option("steps 1, seed 0")
    panel.locator(".name", has_text="B · seed 0").wait_for()  # any two can be chosen
    panel.get_by_role("button", name="Open in the player: steps 20, seed 2").click()
    panel.locator(".name", has_text="B · steps 20").wait_for()  # the same seed again
    assert panel.locator("td[data-side=A] button").get_attribute("title") == "steps 1, seed 2"
    assert panel.locator("td[data-side=B] button").get_attribute("title") == "steps 20, seed 2"


def test_draw_with_the_mouse_and_ask_three_things(page):
    open_tab(page, "Draw")
    panel = room(page, "Draw")
    panel.get_by_role("button", name="Clear").click()
    sheet = panel.locator("canvas.sheet")
    box = sheet.bounding_box()

    def stroke(*points):
        page.mouse.move(box["x"] + points[0][0] * box["width"], box["y"] + points[0][1] * box["height"])
        page.mouse.down()
        for x, y in points[1:]:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
        page.mouse.up()

    stroke((0.3, 0.25), (0.7, 0.25), (0.45, 0.8))  # a seven
    panel.get_by_label("What is it?").check()
    panel.get_by_role("button", name="Go").click()
    panel.locator(".reading[data-draws='32']").wait_for()
    assert panel.locator(".reading").get_attribute("data-label") == "7"
    shot(page, "what-is-it")
    panel.get_by_label("Complete it").check()
    panel.get_by_role("button", name="Mark").click()
    for k in range(6):
        stroke((0.1, 0.55 + 0.07 * k), (0.9, 0.55 + 0.07 * k))
    panel.get_by_label("9", exact=True).check()
    before = state(page, "Draw")  # the example, perhaps stopped by the button
    panel.get_by_role("button", name="Go").click()
    completed = finished(page, "Draw", after=before["run"])
    assert json.loads(completed["settings"])["task"] == "Complete it"
    player(page, "Draw").get_by_role("button", name="Play", exact=True).wait_for()
    shot(page, "complete")
    panel.get_by_label("Noise and denoise").check()
    panel.get_by_role("button", name="Go").click()
    shown = finished(page, "Draw", after=completed["run"])
    assert json.loads(shown["settings"])["task"] == "Noise and denoise"
    player(page, "Draw").get_by_role("button", name="Play", exact=True).wait_for()
    shot(page, "noise-and-denoise")


@pytest.mark.slow
def test_a_grid_that_was_replaced_does_not_come_back(page):
    open_tab(page, "Generate")
    number(page, "Steps", 100)
    open_tab(page, "Compare")
    panel = room(page, "Compare")
    panel.get_by_role("button", name="DDIM or DDPM").click()
    panel.get_by_text(re.compile("[1-7] of 8 cells")).wait_for(timeout=3 * PATIENCE)
    panel.get_by_role("button", name="1 step or 20").click()
    panel.get_by_text("8 of 8 cells").wait_for(timeout=3 * PATIENCE)
    page.wait_for_timeout(4000)  # the older one ends meanwhile
    assert panel.get_by_text("8 of 8 cells").count() == 1
    assert panel.locator(".name").all_inner_texts() == ["A · steps 1", "B · steps 20"]
    open_tab(page, "Generate")
    number(page, "Steps", 20)


@pytest.mark.slow
def test_latent_space_between_two_digits(page):
    open_tab(page, "Latent space")
    panel = room(page, "Latent space")
    number(page, "Images on the way", 7)
    panel.get_by_role("button", name="Interpolate").click()
    panel.locator(".sentence[data-done='True']").wait_for()
    assert finished(page, "Latent space")["arrived"] == "7"
    assert panel.locator(".pair img").count() == 2
    page.wait_for_timeout(500)
    shot(page, "latent")


def test_playground(page):
    open_tab(page, "Playground")
    panel = room(page, "Playground")
    panel.locator(".plane[data-run]").wait_for()  # it opens with a shape, which both sides then show
    panel.locator(".plane[data-training]:not([data-training=''])").wait_for()
    panel.get_by_role("button", name="moons").click()  # this ends the training on the first shape
    panel.locator(".plane[data-training='']").wait_for()
    panel.locator(".plane[data-sides='ideal learned']").wait_for(timeout=3 * PATIENCE)
    verdicts = panel.locator(".verdict")
    assert "memorises" in verdicts.first.inner_text() and "fills the lines" in verdicts.last.inner_text()
    plane = panel.locator(".plane")
    plane.focus()
    page.keyboard.press("End")
    before = panel.locator(".stage canvas").first.evaluate("e => e.toDataURL()")
    page.keyboard.press("Home")
    assert plane.get_attribute("data-at") == "0"
    assert panel.locator(".stage canvas").first.evaluate("e => e.toDataURL()") != before
    shot(page, "playground")

    run = plane.get_attribute("data-run")
    panel.get_by_role("button", name="Clear").click()
    sheet = panel.locator("canvas.sheet").bounding_box()
    for pen, side in (("Class A", 0.25), ("Class B", 0.75)):
        panel.get_by_role("button", name=pen).click()
        page.mouse.move(sheet["x"] + side * sheet["width"], sheet["y"] + 0.2 * sheet["height"])
        page.mouse.down()
        page.mouse.move(sheet["x"] + side * sheet["width"], sheet["y"] + 0.8 * sheet["height"], steps=3)
        page.mouse.up()
    panel.get_by_text("20 of 400 points").wait_for()  # two lines of 1.8, a point every 0.2
    page.wait_for_function("(old) => document.querySelector('.plane').dataset.run !== old", arg=run)
    panel.locator(".plane[data-sides='ideal']").wait_for()
    panel.get_by_label("guidance", exact=True).check()
    assert page.get_by_label("number input for Guidance weight w").last.is_enabled()
    shot(page, "playground-drawn")


def test_why_small_steps(page):
    open_tab(page, "Why small steps?")
    panel = room(page, "Why small steps?")
    gap = panel.locator("[data-gap]")
    assert float(gap.get_attribute("data-gap")) > 0.3
    number(page, "Size of the step", -3)
    page.wait_for_function("() => Number(document.querySelector('[data-gap]').dataset.gap) < 0.03")
    chart = panel.locator("svg[data-low]")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "() => Number(document.querySelector('input[aria-label=\"number input for zₜ\"]').value) < -0.5"
    )
    shot(page, "small-steps")


SIZES_OF_TEXT = """charts => charts.filter((chart) => chart.clientWidth).flatMap((chart) =>
  [...chart.querySelectorAll("text:not(.title)")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize) * chart.clientWidth / chart.viewBox.baseVal.width))"""


def test_evidence(page):
    open_tab(page, "Evidence")
    panel = room(page, "Evidence")
    panel.locator(".facts[data-checkpoint='checkpoints/mnist']").wait_for()
    tops = [panel.locator(part).first.bounding_box()["y"] for part in (".beside img", ".verdict", ".charts")]
    assert tops == sorted(tops) and tops[0] < 300  # first the samples, then the judgement, then the settings
    assert panel.get_by_text("At the end, the loss").bounding_box()["y"] > tops[-1]
    panel.get_by_role("button", name="All measured settings").click()
    assert "of real test images" in panel.inner_text()
    panel.locator(".measured summary", has_text="measured settings").click()
    assert panel.locator("table tr").count() >= 3
    titles = panel.locator(".chart .title")
    titles.get_by_text("FID by sampler and steps").wait_for()
    panel.get_by_role("radio", name="precision").check()
    titles.get_by_text("precision by sampler and steps").wait_for()
    for fold in ("Likelihood of real images", "The classifier that can guide"):
        panel.locator(".measured summary", has_text=fold).click()
    for title in (
        "Kinds of guidance",
        "What a step costs in bits per dimension",
        "The guiding classifier, by noise",
    ):
        titles.get_by_text(title).wait_for()
    panel.locator(".measured summary", has_text="Likelihood by three routes").click()
    assert panel.get_by_text("probability-flow ODE").is_visible()
    assert panel.locator(".nearest img").evaluate("image => image.naturalWidth") == 10 * 28
    for width in (360, 500, 700, 1000, 1100, 1280, 1920):  # the text of charts keeps its size while they grow
        page.set_viewport_size({"width": width, "height": 900})
        sizes = panel.locator(".charted svg").evaluate_all(SIZES_OF_TEXT)
        assert len(sizes) > 20 and min(sizes) >= 11 and max(sizes) <= 17, width
    page.set_viewport_size({"width": 1280, "height": 900})
    shot(page, "evidence")


def test_nothing_was_fetched_from_elsewhere_and_nothing_broke(page):
    assert page.problems == [] and page.foreign == []


# The controls that are too low for a finger, which needs 44 pixels; a box is ticked by its label, too.
LOW = """() => [...document.querySelectorAll("button, a[href], select, summary, input:not([type=file]), [role=tab]")]
  .filter((e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
  .map((e) => (e.matches("[type=checkbox], [type=radio]") && e.closest("label")) || e)
  .filter((e) => e.offsetWidth > 1 && e.getBoundingClientRect().height > 1 && e.getBoundingClientRect().height < 43.5)
  .map((e) => e.outerHTML.slice(0, 200))"""


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_tab_fits_a_phone(server, browser, theme):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.url}/?__theme={theme}&steps=5")
    finished(page)
    assert page.get_by_role("tab").count() >= len(ROOMS) and page.locator(".overflow-menu:visible").count() == 0
    for tab in ROOMS:
        open_tab(page, tab)  # the bar scrolls to it
        assert page.get_by_role("tab", name=tab).first.bounding_box()["x"] >= 0
        page.wait_for_timeout(300)
        shot(page, f"phone-{theme}-{tab.split()[0].lower()}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, tab
        assert page.evaluate(LOW) == [], tab
    page.close()
