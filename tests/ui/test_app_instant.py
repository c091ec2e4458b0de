"""The distilled model of digits in a real browser: few steps, Live, and the noise pad."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest
from browser import browser, canvas_bytes, finished, open_tab, page, player, room, shot, state  # noqa: F401 some are fixtures
from conftest import SHIPPED

from ddpm_demo import load


def settings(page) -> dict:
    return json.loads(state(page)["settings"])


def test_instant_draws_in_one_step_and_back(page):
    before = finished(page)["run"]
    instant = room(page, "Generate").locator("fieldset", has_text="Instant")
    instant.get_by_label("1", exact=True).check()
    first = finished(page, after=before)
    assert (settings(page)["checkpoint"], settings(page)["steps"]) == ("mnist-instant", 1)
    assert player(page).locator("canvas[data-panel]").evaluate_all("all => all.map(e => e.dataset.panel)") == [
        "x",
        "x0",
        "eps",
    ]
    assert "1 network call for" in room(page, "Generate").locator(".remark").first.inner_text()
    shot(page, "instant")
    instant.get_by_label("off", exact=True).check()
    finished(page, after=first["run"])
    assert settings(page)["checkpoint"] == "mnist" and settings(page)["steps"] > 1


def test_live_shows_the_finished_image_of_every_change(page):
    before = state(page)["run"]
    room(page, "Generate").locator("fieldset", has_text="Instant").get_by_label("1", exact=True).check()
    before = finished(page, after=before)["run"]
    page.get_by_label("Live").check()
    before = finished(page, after=before)["run"]
    page.wait_for_timeout(500)  # what still follows the two changes on a busy machine
    shown, asked = canvas_bytes(page), len(page.requests)
    page.get_by_label("range slider for Guidance weight w").press("ArrowRight")
    finished(page, after=before)
    moved = load(SHIPPED).sampling.weight + 0.05
    assert canvas_bytes(page) != shown and settings(page)["weight"] == pytest.approx(moved)
    page.wait_for_timeout(300)
    assert len([url for url in page.requests[asked:] if url.startswith("http")]) == 1  # nothing follows a whole run
    page.get_by_label("Live").uncheck()


def test_the_pad_draws_while_the_handle_moves(page):
    open_tab(page, "Noise pad")
    pad = room(page, "Noise pad").locator(".noisepad")
    pad.and_(page.locator("[data-compared]")).wait_for()
    picture, box, seen = pad.locator("canvas.image"), pad.locator(".square").bounding_box(), []
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    for k in (1, 2, 3):  # each place is drawn while the button is down
        before = int(pad.get_attribute("data-drawn"))
        page.mouse.move(box["x"] + k * box["width"] / 4, box["y"] + k * box["height"] / 4)
        page.wait_for_function("([e, n]) => Number(e.dataset.drawn) > n", arg=[pad.element_handle(), before])
        seen.append(picture.evaluate("e => e.toDataURL()"))
    page.mouse.move(box["x"] + box["width"] + 9, box["y"] - 9)  # the corner of seed 1, as the pad ends there
    page.mouse.up()
    assert len(set(seen)) == 3
    corner = pad.locator(".corners canvas").nth(1).element_handle()
    page.wait_for_function("([a, b]) => a.toDataURL() === b.toDataURL()", arg=[picture.element_handle(), corner])
    names = pad.locator(".same .row div").all_inner_texts()
    assert [name.strip() for name in names] == ["1 call", "2 calls", "4 calls", "8 calls", "16 calls", "40 calls"]
    shot(page, "noise-pad")


def test_the_keyboard_moves_the_handle(page):
    pad = room(page, "Noise pad").locator(".noisepad")
    drawn = int(pad.get_attribute("data-drawn"))
    pad.locator(".square").press("ArrowLeft")
    page.wait_for_function("([e, n]) => Number(e.dataset.drawn) > n", arg=[pad.element_handle(), drawn])


def test_a_corner_opens_its_seed_in_generate(page):
    before = state(page)["run"]
    room(page, "Noise pad").get_by_label("Open seed 2 in Generate").click()
    finished(page, after=before)
    shown = settings(page)
    assert (shown["checkpoint"], shown["seed"], shown["class_label"]) == ("mnist", 2, "3")


def test_a_place_opens_in_generate_and_in_the_link(page):
    before = state(page)["run"]
    open_tab(page, "Noise pad")
    pad = room(page, "Noise pad").locator(".noisepad")
    box = pad.locator(".square").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    pad.get_by_role("button", name="Open in Generate", exact=True).click()
    opened = finished(page, after=before)["run"]
    shown = settings(page)
    assert (shown["checkpoint"], shown["class_label"]) == ("mnist", "3")
    *corners, at, u, v = shown["place"].split()
    assert corners == ["0", "1", "2", "3"] and at == "at"
    assert (float(u), float(v)) == pytest.approx((0.25, 0.5), abs=0.01)
    assert dict(parse_qsl(urlsplit(page.url).query))["place"] == shown["place"]
    page.get_by_role("button", name="New seed").click()
    finished(page, after=opened)
    assert settings(page)["place"] == "" and "place=" not in page.url


@pytest.mark.parametrize("query", ["steps=20", "sampler=ode&steps=5"])  # the second has a draft without a picture
def test_live_draws_the_whole_run_after_a_draft(page, server, query):
    page.wait_for_timeout(500)  # leaving the page would interrupt the last requests, which it reports as errors
    page.goto(f"{server.url}?class_label=3&weight=1&{query}")
    finished(page)
    page.get_by_label("Live").check()
    page.get_by_label("range slider for Guidance weight w").press("ArrowRight")
    page.wait_for_function("""() => {
      const { done, settings } = document.querySelector("#tab-generate .player").dataset, { weight, steps } = JSON.parse(settings);
      return done === "true" && weight === 1.05 && [5, 20].includes(steps);
    }""")
    assert "draft" not in room(page, "Generate").locator(".source").inner_text()


def test_the_pad_draws_by_the_model_distilled_from_the_checkpoint_in_use(page):
    open_tab(page, "Noise pad")
    pad = room(page, "Noise pad").locator(".noisepad")
    pad.locator(".about", has_text="by mnist-instant").wait_for()
    page.get_by_label("Checkpoint").click()
    page.get_by_role("option", name="cifar10", exact=True).click()
    pad.locator(".about", has_text="by cifar10-instant").wait_for()
    assert pad.locator(".names button").all_inner_texts()[:2] == ["airplane", "automobile"]
    pad.locator(".same .row div").nth(5).wait_for()
    shot(page, "noise-pad-photographs")
    open_tab(page, "Generate")
    before = finished(page)["run"]
    room(page, "Generate").locator("fieldset", has_text="Instant").get_by_label("1", exact=True).check()
    finished(page, after=before)
    assert (settings(page)["checkpoint"], settings(page)["weight"]) == (
        "cifar10-instant",
        load(SHIPPED.with_name("cifar10-instant")).sampling.weight,
    )


def test_nothing_went_wrong(page):
    assert page.problems == [] and page.foreign == []
