"""The real app on the shipped model in a real headless browser."""

import json
import os
import re
import shutil
import time

import pytest
from conftest import Server
from PIL import Image
from playwright.sync_api import sync_playwright

PATIENCE = 20_000  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or pytest.fail("Debian's chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(server, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.problems, page.foreign, page.requests = [], [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("request", lambda request: page.requests.append(request.url))
    page.on(
        "request", lambda r: None if r.url.startswith((server.url, "data:", "blob:")) else page.foreign.append(r.url)
    )
    page.goto(server.url)
    return page


def shot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


ROOMS = {
    "Generate": "generate", "Forward process": "forward", "Compare": "compare", "Draw": "draw",
    "Why small steps?": "small-steps", "Evidence": "evidence",
}  # fmt: skip


def room(page, tab):
    """What a tab shows."""
    return page.locator(f"#tab-{ROOMS[tab]}")


def player(page, tab="Generate"):
    return room(page, tab).locator(".player")


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def state(page, tab="Generate") -> dict:
    return player(page, tab).evaluate("e => ({...e.dataset})")


def finished(page, tab="Generate", after: str | None = None) -> dict:
    """The player's state once a run, another than ``after``, has arrived in full."""
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        shown = state(page, tab) if player(page, tab).count() else {}
        if shown.get("done") == "true" and shown["run"] != after:
            return shown
        time.sleep(0.02)
    raise AssertionError(f"no finished run within a minute: {shown}")


def canvas_bytes(page, panel="x0", tab="Generate") -> str:
    return player(page, tab).locator(f"canvas[data-panel={panel}]").evaluate("e => e.toDataURL()")


def test_the_page_opens_on_a_run(page):
    shown = finished(page)
    assert json.loads(shown["settings"])["class_label"] == "all" and shown["arrived"] == "20"
    player(page).get_by_role("button", name="Play", exact=True).wait_for()  # it has played to its end
    shot(page, "opened")
    assert player(page).locator("canvas").count() == 4
    assert player(page).locator("canvas").first.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"


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
    box.get_by_role("button", name="One step forth").click()
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


def number(page, label, value):
    box = page.get_by_label(f"number input for {label}").first
    box.fill(str(value))
    box.press("Enter")


def settled(page, name, value):
    """Live has drawn the setting, exactly: no draft."""
    page.wait_for_function(
        "([name, value]) => { const data = document.querySelector('.player').dataset; return data.done === 'true' && "
        "JSON.parse(data.settings)[name] === value && document.querySelector('.source').textContent.includes('DPM'); }",
        arg=[name, value],
    )


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
    settled(page, "weight", 4.5)
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


def test_closing_the_tab_frees_the_worker_within_a_second(server, browser):
    other = browser.new_page()
    other.goto(server.url + "/?steps=1000&sampler=ddpm")
    other.wait_for_function("() => Number(document.querySelector('.player')?.dataset.arrived) > 2", timeout=PATIENCE)
    other.close()
    time.sleep(1.2)
    before = server.cpu_seconds()
    time.sleep(1.5)
    assert server.cpu_seconds() - before < 0.5


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
    page.get_by_role("button", name="Walk again").click()
    page.get_by_text("901 single steps and one jump").wait_for()
    shot(page, "forward")


def test_compare_fills_and_opens_a_cell(page):
    open_tab(page, "Compare")
    panel = room(page, "Compare")
    panel.get_by_label("Down").click()
    page.get_by_role("option", name="class", exact=True).click()
    panel.get_by_role("button", name="Fill the grid").click()
    panel.get_by_text("60 of 60 cells").wait_for()
    assert panel.locator("td img").count() == 60
    panel.get_by_role("button", name="Open in the player: class 4, steps 12").click()
    shown = finished(page, "Compare")
    assert json.loads(shown["settings"])["class_label"] == "4" and json.loads(shown["settings"])["steps"] == 12
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save the grid").click()
    with Image.open(download.value.path()) as image:
        assert image.width > 800
    shot(page, "compare")


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
    panel.get_by_role("button", name="Go").click()
    completed = finished(page, "Draw")
    player(page, "Draw").get_by_role("button", name="Play", exact=True).wait_for()
    shot(page, "complete")
    panel.get_by_label("Noise and denoise").check()
    panel.get_by_role("button", name="Go").click()
    shown = finished(page, "Draw", after=completed["run"])
    assert json.loads(shown["settings"])["task"] == "Noise and denoise"
    player(page, "Draw").get_by_role("button", name="Play", exact=True).wait_for()
    shot(page, "noise-and-denoise")


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


def test_evidence(page):
    open_tab(page, "Evidence")
    panel = room(page, "Evidence")
    panel.locator(".facts[data-checkpoint='checkpoints/mnist']").wait_for()
    assert "of real test images" in panel.inner_text()
    panel.locator(".measured summary", has_text="measured settings").click()
    assert panel.locator("table tr").count() >= 3
    titles = panel.locator(".chart .title")
    titles.get_by_text("FID by sampler and steps").wait_for()
    panel.get_by_label("precision").check()
    titles.get_by_text("precision by sampler and steps").wait_for()
    assert panel.locator(".nearest img").evaluate("image => image.naturalWidth") == 10 * 28
    page.wait_for_timeout(500)
    shot(page, "evidence")


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
        received.clear()
        first, whole = page.evaluate(measure, ["button.primary", None])
        time.sleep(0.5)
        figures |= {f"first frame, {name}, ms": first, f"20 steps, {name}, ms": whole}
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
    page.close()
    server.stop()
    print(json.dumps(figures, indent=2))
    assert figures["start-up, s"] < 60 and figures["20 steps, one digit, ms"] < 10000
    assert figures["payload, one digit, kB"] < 300


def test_nothing_was_fetched_from_elsewhere_and_nothing_broke(page):
    assert page.problems == [] and page.foreign == []


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_tab_fits_a_phone(server, browser, theme):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.url}/?__theme={theme}&steps=5")
    finished(page)
    for tab in ROOMS:
        if not page.get_by_role("tab", name=tab).first.is_visible():
            page.locator(".overflow-menu > button").first.click()
            page.locator(".overflow-dropdown button", has_text=tab).click()
        page.wait_for_timeout(300)
        shot(page, f"phone-{theme}-{tab.split()[0].lower()}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, tab
    page.close()
