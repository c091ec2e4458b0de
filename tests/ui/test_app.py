"""The real app on the shipped model in a real headless browser: the Generate tab, and a visit as a whole."""

import json
import os
import re
import time

import pytest
from browser import PATIENCE, browser, canvas_bytes, finished, number, open_tab, page, player, shot, state  # noqa: F401 some are fixtures
from conftest import SHIPPED, Server
from PIL import Image

from ddpm_demo import load


def test_the_page_opens_on_a_run(page):
    shown = finished(page)
    assert json.loads(shown["settings"])["class_label"] == "all" and shown["arrived"] == "20"
    player(page).get_by_role("button", name="Play", exact=True).wait_for()  # it has played to its end
    shot(page, "opened")
    assert player(page).locator("canvas[data-panel]").count() == 4
    assert (
        player(page).locator("canvas[data-panel]").first.evaluate("e => getComputedStyle(e).imageRendering")
        == "pixelated"
    )


def test_a_seven_is_drawn_before_the_eyes(page):
    before = state(page)["run"]
    page.get_by_label("7", exact=True).first.check()
    page.get_by_role("button", name="Generate").click()
    seen, deadline = set(), time.monotonic() + 40
    while len(seen) < 12 and time.monotonic() < deadline:
        shown = state(page)
        if shown["run"] != before:
            seen.add(canvas_bytes(page))
    assert len(seen) >= 12
    shown = finished(page, after=before)
    player(page).get_by_role("button", name="Play", exact=True).wait_for()
    shot(page, "finished")
    assert json.loads(shown["settings"])["class_label"] == "7"
    numbers = player(page).locator(".numbers").inner_text()
    assert re.search(r"step\s+20 of 20", numbers) and re.search(r"network calls\s+20 × 2", numbers)
    assert "class_label=7" in page.url


def test_the_player_needs_no_server_any_more(page):
    """Scrub, step, keys, speed and loop, without one request; every frame is another picture."""
    page.wait_for_timeout(500)
    page.requests.clear()
    box = player(page)
    scrub = box.get_by_label("Step", exact=True)
    pictures = set()
    for k in range(20):
        scrub.fill(str(k))
        assert re.search(rf"step\s+{k + 1} of 20", box.locator(".numbers").inner_text())
        pictures.add(canvas_bytes(page, "x"))
    assert len(pictures) == 20
    box.focus()
    page.keyboard.press("Home")
    assert state(page)["at"] == "0" and scrub.get_attribute("aria-valuetext") == "step 1 of 20"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert state(page)["at"] == "1"
    box.get_by_role("button", name="One step forward").click()
    assert state(page)["at"] == "2"
    box.get_by_label("Playing speed").select_option("4")
    box.focus()
    page.keyboard.press("End")
    box.get_by_label("loop").check()
    page.wait_for_timeout(1500)
    box.get_by_role("button", name="Pause").click()
    here = state(page)["at"]
    page.wait_for_timeout(400)
    assert state(page)["at"] == here
    box.get_by_label("loop").uncheck()
    box.get_by_label("Playing speed").select_option("1")
    assert [url for url in page.requests if not url.startswith(("data:", "blob:")) and "heartbeat" not in url] == []


@pytest.mark.parametrize("button, kind", [("GIF", "GIF"), ("WebP", "WEBP"), ("PNG", "PNG"), ("JSON", None)])
def test_a_run_is_saved(page, tmp_path, button, kind):
    player(page).get_by_text("Save", exact=True).click()
    with page.expect_download() as download:
        player(page).get_by_role("button", name=re.compile(button)).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    if kind is None:
        assert json.loads(path.read_text())["class_label"] == "7"
        return
    with Image.open(path) as image:
        assert image.format == kind
        assert image.size == (20 * 28, 4 * 28) if kind == "PNG" else image.n_frames == 20


def test_a_link_brings_back_the_run_on_another_page(page, server, browser):
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(server.url + "/?class_label=5&weight=2.5&steps=7&sampler=ddim&schedule=linear&seed=9")
    shown = finished(other)
    used = json.loads(shown["settings"])
    assert (used["class_label"], used["weight"], used["steps"], used["sampler"]) == ("5", 2.5, 7, "ddim")
    assert other.get_by_label("5", exact=True).first.is_checked()
    assert other.get_by_label("number input for Steps").input_value() == "7"
    other.keyboard.press("End")
    player(other).focus()
    other.keyboard.press("End")
    first = canvas_bytes(other)
    other.reload()
    finished(other)
    player(other).focus()
    other.keyboard.press("End")
    assert canvas_bytes(other) == first
    other.close()


@pytest.mark.slow
def test_a_film_arrives_even_if_all_of_it_comes_at_once(page, server, browser):
    """A fast machine, or a proxy that holds answers back, delivers a run's messages together, with their end."""
    other = browser.new_page()
    other.set_default_timeout(PATIENCE)
    other.route("**/queue/data*", lambda route: route.fulfill(response=route.fetch()))
    for steps in (7, 8, 9):
        other.goto(server.url + f"/?class_label=5&weight=2.5&steps={steps}&sampler=ddim&seed=9")
        shown = finished(other)
        assert shown["arrived"] == str(steps) and json.loads(shown["settings"])["class_label"] == "5"
        assert other.get_by_role("button", name="Generate").is_enabled()
    other.close()


def settled(page, name, value):
    """Live has drawn the setting, exactly: no draft."""
    page.wait_for_function(
        "([name, value]) => { const data = document.querySelector('.player').dataset; return data.done === 'true' && "
        "JSON.parse(data.settings)[name] === value && document.querySelector('.source').textContent.includes('DPM'); }",
        arg=[name, value],
    )


def test_a_classifier_guides_where_the_network_ignores_the_class(page):
    page.get_by_label("7", exact=True).first.check()
    number(page, "Guidance weight w", -1)
    page.get_by_role("button", name="More settings and presets").click()
    number(page, "Classifier guidance s", 6)
    page.get_by_text("the network ignores the class").wait_for()
    before = state(page)["run"]
    page.get_by_role("button", name="Generate").click()
    shown = finished(page, after=before)
    assert json.loads(shown["settings"])["classifier_scale"] == 6
    assert player(page).locator("canvas[data-panel=guidance]").is_visible()
    shot(page, "classifier-guidance")
    number(page, "Classifier guidance s", 0)
    number(page, "Guidance weight w", 1)


def test_live_redraws_as_the_slider_moves(page):
    number(page, "Steps", 6)
    page.get_by_label("Live").check()
    number(page, "Guidance weight w", 2)
    settled(page, "weight", 2)
    assert "guidance_scale 3" in page.locator(".prose.remark").inner_text()
    two = canvas_bytes(page)
    slider = page.locator("input[type=range][aria-label*='Guidance weight']").first
    slider.focus()
    for _ in range(25):  # a drag: many changes, the newest wins
        page.keyboard.press("ArrowRight")
    settled(page, "weight", 3.25)
    assert canvas_bytes(page) != two
    shot(page, "live")
    page.get_by_label("Live").uncheck()


def test_a_preset_sets_the_controls(page):
    page.get_by_label("Preset").click()
    page.get_by_role("option", name=re.compile("DDIM paper")).click()
    page.wait_for_function(
        "() => document.querySelector('input[aria-label=\"number input for Steps\"]').value === '50'"
    )
    assert page.get_by_label("linear", exact=True).first.is_checked()
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Best measured").click()
    page.wait_for_function(
        "() => document.querySelector('input[aria-label=\"number input for Steps\"]').value === '20'"
    )
    assert page.get_by_label("cosine", exact=True).first.is_checked()
    best = load(SHIPPED).sampling
    assert page.get_by_label("number input for Guidance weight w").first.input_value() == f"{best.weight:g}"


def test_stop_in_mid_run_and_generate_again(page):
    number(page, "Steps", 1000)
    before = state(page)["run"]
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("button", name="Stop").first.and_(page.locator(":enabled")).click()
    page.get_by_role("button", name="Generate").and_(page.locator(":enabled")).wait_for()
    page.wait_for_timeout(1000)
    stopped = state(page)
    page.wait_for_timeout(1000)
    assert state(page)["arrived"] == stopped["arrived"] and int(stopped["arrived"]) <= 60
    number(page, "Steps", 10)
    page.get_by_role("button", name="Generate").click()
    assert json.loads(finished(page, after=before)["settings"])["steps"] == 10


def test_the_newest_run_replaces_the_others_and_stop_ends_any(page):
    """Whatever starts a run, it draws at once, and Stop ends it."""
    stop = page.get_by_role("button", name="Stop").first.and_(page.locator(":enabled"))
    generate = page.get_by_role("button", name="Generate").and_(page.locator(":enabled"))
    number(page, "Steps", 1000)
    before = state(page)["run"]
    dice = page.get_by_role("button", name="New seed")
    dice.click()
    stop.wait_for()
    number(page, "Steps", 9)
    dice.click()
    shown = finished(page, after=before)
    assert json.loads(shown["settings"])["steps"] == 9
    generate.wait_for()
    page.wait_for_timeout(1000)
    assert state(page)["run"] == shown["run"]

    number(page, "Steps", 1000)
    dice.click()
    stop.click()
    generate.wait_for()
    page.wait_for_timeout(1000)
    stopped = state(page)
    page.wait_for_timeout(1000)
    assert state(page)["arrived"] == stopped["arrived"] and stopped["done"] == "false"


@pytest.mark.slow
def test_closing_the_tab_frees_the_worker_within_a_second(server, browser):
    other = browser.new_page()
    other.goto(server.url + "/?steps=1000&sampler=ddpm")
    other.wait_for_function("() => Number(document.querySelector('.player')?.dataset.arrived) > 2", timeout=PATIENCE)
    other.close()
    time.sleep(1.2)
    before = server.cpu_seconds()
    time.sleep(1.5)
    assert server.cpu_seconds() - before < 0.5


# Moves a slider by its step and returns the milliseconds until the element that ``changed`` watches has changed.
MOVE_SLIDER = """async ([slider, watched, attribute]) => {
  const input = document.querySelector(slider), shown = document.querySelector(watched), old = shown.dataset[attribute];
  const at = performance.now();
  input.value = +input.value + 0.1;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  while (shown.dataset[attribute] === old) await new Promise(requestAnimationFrame);
  return performance.now() - at;
}"""


def time_instant(page) -> dict:
    """Figures of the distilled model: from the slider to the picture in Live and in the noise pad, pictures of a drag."""
    page.goto(page.url.partition("?")[0] + "?class_label=7&checkpoint=mnist-instant&steps=1")
    finished(page)
    time.sleep(6)  # the network is recorded meanwhile
    page.get_by_label("Live").check()
    time.sleep(2)
    slider, live, pad = "input[type=range][aria-label*='Guidance weight']", [], "#tab-noise .noisepad"
    for _ in range(15):
        live.append(page.evaluate(MOVE_SLIDER, [slider, "#tab-generate .player", "drawn"]))
        time.sleep(0.3)
    open_tab(page, "Noise pad")
    page.locator(pad).and_(page.locator("[data-compared]")).wait_for()
    time.sleep(1)
    box, began, moved = page.locator(f"{pad} .square").bounding_box(), time.monotonic(), 0
    before = int(page.locator(pad).get_attribute("data-drawn"))
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    while time.monotonic() < began + 4:
        moved = (moved + 3) % int(box["width"] - 18)
        page.mouse.move(box["x"] + 9 + moved, box["y"] + 9 + moved)
    drawn = int(page.locator(pad).get_attribute("data-drawn")) - before
    page.mouse.up()
    return {
        "Live, distilled model, 1 step: slider to picture, median ms": sorted(live)[7],
        "Noise pad: pictures a second during a drag": drawn / 4,
    }


@pytest.mark.slow
def test_the_figures_of_a_visit(browser, tmp_path):
    """Start-up, first frame, a run, Live and payload, as a visitor has them; ``-s`` prints the figures."""
    server = Server(OMP_NUM_THREADS=str(os.cpu_count()))  # as a visitor has it
    figures = {"start-up, s": server.seconds_to_start}
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    network = page.context.new_cdp_session(page)
    received = []
    network.on("Network.dataReceived", lambda event: received.append(event["dataLength"]))
    network.send("Network.enable")
    began = time.monotonic()
    page.goto(server.url)
    page.locator(".player canvas").first.wait_for()
    figures["page to its first frame, s"] = time.monotonic() - began
    finished(page)
    time.sleep(6)  # the network is recorded meanwhile
    measure = """async ([button, want]) => {
      const player = document.querySelector(".player"), old = player.dataset.run, at = performance.now();
      document.querySelector(button).click();
      while (player.dataset.run === old) await new Promise(requestAnimationFrame);
      const first = performance.now() - at;
      while (player.dataset.done !== "true") await new Promise(requestAnimationFrame);
      return [first, performance.now() - at];
    }"""
    for label, name in (("all 10", "all ten digits"), ("7", "one digit")):
        page.get_by_label(label, exact=True).first.check()
        time.sleep(1)
        times = []
        for _ in range(7):
            received.clear()
            times.append(page.evaluate(measure, ["button.primary", None]))
            time.sleep(0.5)
        first, whole = (sorted(part)[3] for part in zip(*times))
        figures |= {f"first frame, {name}, median ms": first, f"20 steps, {name}, median ms": whole}
        figures[f"payload, {name}, kB"] = sum(received) / 1000
    for steps in (6, 12):
        number(page, "Steps", steps)
        page.get_by_label("Live").check()
        time.sleep(3)
        moved = []
        for _ in range(5):
            moved.append(
                page.evaluate("""async () => {
                  const slider = document.querySelector("input[type=range][aria-label*='Guidance weight']");
                  const player = document.querySelector(".player"), old = player.dataset.drawn.split(":")[0];
                  const at = performance.now();
                  slider.value = +slider.value + 0.3;
                  slider.dispatchEvent(new Event("input", { bubbles: true }));
                  while (player.dataset.drawn.split(":")[0] === old) await new Promise(requestAnimationFrame);
                  const first = performance.now() - at, draft = document.querySelector(".source").textContent;
                  return [first, draft.includes("draft") ? draft.split(" ")[2] : "all"];
                }""")
            )
            time.sleep(1)
        figures[f"Live, {steps} steps: slider to picture, median ms"] = sorted(ms for ms, _ in moved)[2]
        figures[f"Live, {steps} steps: drawn at once"] = [drawn_at_once for _, drawn_at_once in moved]
        page.get_by_label("Live").uncheck()
    figures |= time_instant(page)
    page.close()
    server.stop()
    print(json.dumps(figures, indent=2))
    assert figures["start-up, s"] < 60 and figures["20 steps, one digit, median ms"] < 10000
    assert figures["payload, one digit, kB"] < 300


def test_nothing_was_fetched_from_elsewhere_and_nothing_broke(page):
    assert page.problems == [] and page.foreign == []
