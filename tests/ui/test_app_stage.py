"""The stage of the Generate tab in a real browser: strip, curve, one image of a grid alone, notes, and a phone."""

import io
import json
import re
import urllib.request

import pytest
from browser import PATIENCE, browser, canvas_bytes, finished, number, page, player, shot, state  # noqa: F401 some are fixtures
from PIL import Image

SLOW_PICTURES = """const decode = window.createImageBitmap;
window.createImageBitmap = async (...given) => { await new Promise((done) => setTimeout(done, 400)); return decode(...given); };"""


def size(page, panel: str) -> dict:
    return player(page).locator(f"canvas[data-panel={panel}]").bounding_box()


def rest(page) -> dict:
    """The player's state when the film has played to its end."""
    finished(page)
    player(page).get_by_role("button", name="Play", exact=True).wait_for()
    return state(page)


def test_the_film_plays_on_opening_and_rests_at_its_last_step(server, browser):
    """Also where its last pictures are decoded slowly: the film is not at its end before they are shown."""
    other = browser.new_page(viewport={"width": 1400, "height": 900})
    other.set_default_timeout(PATIENCE)
    other.add_init_script(SLOW_PICTURES)
    other.goto(f"{server.url}/?steps=6&class_label=7")
    other.wait_for_function("() => document.querySelector('.player')?.dataset.at > 1")
    seen = {canvas_bytes(other)}
    shown = rest(other)
    seen.add(canvas_bytes(other))
    assert len(seen) == 2 and shown["at"] == "5"
    other.close()


def test_the_two_states_are_shown_large_with_whole_pixels(page):
    page.set_viewport_size({"width": 1400, "height": 900})
    rest(page)
    for panel in ("x", "x0"):
        drawn = player(page).locator(f"canvas[data-panel={panel}]")
        zoom = size(page, panel)["width"] / drawn.evaluate("e => e.width")
        assert zoom >= 4 and zoom == int(zoom)
    assert size(page, "eps")["width"] <= size(page, "x")["width"] / 2
    bottom = page.get_by_role("button", name="Generate").bounding_box()
    assert bottom["y"] + bottom["height"] < 900  # with all controls above it


def test_the_guidance_at_rest_is_the_strongest(page):
    rest(page)
    guidance = player(page).locator(".panel", has=page.locator("canvas[data-panel=guidance]"))
    assert "where it is strongest" in guidance.inner_text()
    at_rest = canvas_bytes(page, "guidance")
    player(page).focus()
    page.keyboard.press("ArrowLeft")
    assert "strongest" not in guidance.inner_text() and canvas_bytes(page, "guidance") != at_rest
    page.keyboard.press("Home")
    assert canvas_bytes(page, "guidance") == at_rest  # with this schedule it is the first step
    page.keyboard.press("End")
    assert canvas_bytes(page, "guidance") == at_rest


def test_the_strip_and_the_curve_scrub(page):
    rest(page)
    track = player(page).locator(".track")
    box = track.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.click(box["x"] + 2, middle)
    assert state(page)["at"] == "0"
    page.mouse.down()
    for step in (4, 9, 14):
        page.mouse.move(box["x"] + (step + 0.5) / 20 * box["width"], middle)
        assert state(page)["at"] == str(step)
    page.mouse.up()
    page.mouse.move(box["x"] + 5, middle)
    assert state(page)["at"] == "14"  # the button is up
    slider = player(page).get_by_role("slider", name="Step", exact=True)
    assert slider.evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert state(page)["at"] == "15" and slider.input_value() == "15"
    needle = player(page).locator(".needle").bounding_box()
    assert abs(needle["x"] + 1 - box["x"] - 15.5 / 20 * box["width"]) < 2
    dots = player(page).locator(".curve .dot")
    assert dots.count() == 20
    heights = dots.evaluate_all("all => all.map(e => Number(e.getAttribute('cy')))")
    assert heights == sorted(heights, reverse=True)
    assert heights[1] - heights[-1] > 3 * (heights[0] - heights[1])  # the step at -19.8 does not flatten the others


def test_one_image_of_the_grid_is_shown_alone(page):
    rest(page)
    player(page).focus()
    page.keyboard.press("End")
    every = canvas_bytes(page)
    seven = player(page).locator("canvas[data-panel=x0]")
    box = seven.bounding_box()
    seven.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.75})  # the third of the second row
    assert state(page)["alone"] == "7"
    assert [seven.evaluate("e => e.width"), seven.evaluate("e => e.height")] == [28, 28]
    for panel in ("x", "eps", "guidance"):
        assert player(page).locator(f"canvas[data-panel={panel}]").evaluate("e => e.width") == 28
    assert size(page, "x0")["width"] >= 10 * 28
    assert player(page).get_by_label("Image", exact=True).locator("option:checked").inner_text() == "7"
    shot(page, "alone")
    seven.click()
    assert state(page)["alone"] == "-1" and canvas_bytes(page) == every
    player(page).focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert state(page)["alone"] == "2"
    page.keyboard.press("Escape")
    assert state(page)["alone"] == "-1" and canvas_bytes(page) == every


def test_a_control_without_effect_says_so_beside_itself(page):
    page.get_by_role("button", name="More settings and presets").click()
    number(page, "Guidance weight w", 0)
    page.get_by_text("no effect: nothing is guided at w = 0").nth(1).wait_for()  # both ends of the interval
    number(page, "Guidance weight w", 1)
    page.get_by_text("nothing is guided below this log-SNR").wait_for()
    variance = page.locator("fieldset", has_text="Reverse variance")
    assert "no effect with this sampler" in variance.inner_text()


def test_the_dice_draws_another_seed(page):
    number(page, "Steps", 2)
    before = state(page)
    page.get_by_role("button", name="New seed").click()
    shown = finished(page, after=before["run"])
    assert json.loads(shown["settings"])["seed"] != json.loads(before["settings"])["seed"]
    assert page.get_by_label("Seed", exact=True).first.input_value() == str(json.loads(shown["settings"])["seed"])


def test_the_stage_of_a_phone_stays_on_top(server, browser):
    other = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    other.set_default_timeout(PATIENCE)
    other.goto(f"{server.url}/?steps=5&class_label=7")
    rest(other)
    stage, weight = (
        other.locator(".stage .view"),
        other.locator("input[type=range][aria-label*='Guidance weight']").first,
    )
    assert stage.bounding_box()["y"] < weight.bounding_box()["y"] and stage.bounding_box()["height"] < 844 / 2
    other.mouse.wheel(0, 500)
    other.wait_for_timeout(200)
    assert stage.bounding_box()["y"] == pytest.approx(0, abs=1)
    other.get_by_role("button", name="More of the player").click()
    small = """() => [...document.querySelectorAll('.stage button, .stage select, .stage summary, .stage .pick label:has(input), '
      + '.tab-container button, .stage .pick input[type=range]')].filter((e) => e.checkVisibility() && e.offsetHeight < 44)
      .map((e) => e.outerHTML.slice(0, 90))"""
    assert other.evaluate(small) == []
    assert other.evaluate("document.documentElement.scrollWidth") <= 390
    other.close()


def test_a_link_to_the_app_shows_its_own_title_and_picture(server):
    """In the page as the server sends it, because the readers of previews run no JavaScript."""
    text = urllib.request.urlopen(server.url).read().decode()
    found = re.findall(r'<meta\s+property="og:(\w+)"\s+content="([^"]*)"', text)
    tags = dict(found)
    assert len(tags) == len(found) and "twitter:image" not in text  # none of Gradio's
    assert tags["title"].startswith("See through a diffusion model") and tags["image"].startswith(server.url)
    with Image.open(io.BytesIO(urllib.request.urlopen(tags["image"]).read())) as picture:
        assert picture.size == (1200, 630)
    with Image.open(io.BytesIO(urllib.request.urlopen(server.url + "/favicon.ico").read())) as icon:
        assert icon.format == "PNG"


@pytest.mark.slow
def test_the_tour_moves_the_controls_and_can_be_left(page):
    page.emulate_media(reduced_motion="reduce")  # no pause before a control moves
    panel = page.locator("#tour").get_by_role("dialog")
    assert not panel.is_visible()

    def moved(title: str) -> None:
        """Wait until the stop with this title has moved its control; the panel is beside it and has the focus."""
        panel.get_by_role("heading", name=title).wait_for()
        page.locator("#tour [data-moved]").wait_for()
        assert (
            panel.get_by_role("button", name="Next")
            .or_(panel.get_by_role("button", name="Done"))
            .evaluate("e => e === document.activeElement")
        )
        ring, box = page.locator("#tour .ring").bounding_box(), panel.bounding_box()
        assert ring["width"] > 100 and box["x"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]

    def step(name: str, title: str) -> None:
        panel.get_by_role("button", name=name).click()
        moved(title)

    page.get_by_role("button", name="Tour").click()
    moved("Show an earlier step")
    frames = int(state(page)["arrived"])
    assert state(page)["at"] == str(round(0.3 * (frames - 1)))
    step("Next", "Turn guidance off")
    assert page.get_by_label("number input for Guidance weight w").first.input_value() == "0"
    step("Next", "Let Live redraw")
    assert (
        page.get_by_role("checkbox", name="Live").is_checked()
        and page.get_by_role("radio", name="linear").first.is_checked()
    )
    step("Next", "One network call")
    assert page.locator("#tab-noise .handle").evaluate("e => [e.style.left, e.style.top]") == ["90%", "90%"]
    step("Next", "Two runs from one noise")
    assert page.get_by_role("slider", name="Line between A and B").input_value() == "25"
    step("Next", "Let it read your handwriting")
    page.locator("#tab-draw .reading").wait_for()
    step("Back", "Two runs from one noise")
    page.keyboard.press("Escape")
    assert not panel.is_visible() and page.get_by_role("button", name="Tour").evaluate(
        "e => e === document.activeElement"
    )
    page.emulate_media(reduced_motion="no-preference")


def test_nothing_broke(page):
    assert page.problems == [] and page.foreign == []
