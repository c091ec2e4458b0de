"""The real app on the shipped model: through its API, and in a real headless browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import ROOT
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        assert process.poll() is None, process.stdout.read().decode()
        try:
            urllib.request.urlopen(address, timeout=1)
            break
        except OSError:
            time.sleep(0.25)
    yield address
    process.terminate()
    process.wait(20)


SETTINGS = {
    "class_label": "7",
    "weight": 1.0,
    "schedule": "cosine",
    "sampler": "dpm++2m",
    "steps": 12,
    "seed": 4,
    "count": 2,
}


def test_the_api_draws_and_says_how(url, tmp_path):
    client = Client(url, verbose=False, download_files=tmp_path)
    path, used = client.predict(**SETTINGS, api_name="/generate")
    assert used == SETTINGS | {"guidance_scale": 2.0}
    image = Image.open(path)
    assert image.format == "PNG" and image.width > image.height > 200
    again, _ = client.predict(**SETTINGS, api_name="/generate")
    assert Image.open(again).tobytes() == image.tobytes()
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/generate"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"steps": 3.7}, "steps is 3.7; it must be a whole number"),
        ({"steps": 100000}, "1000"),
        ({"class_label": "eleven"}, "eleven"),
    ],
)
def test_the_api_validates_again(url, changed, message):
    with pytest.raises((AppError, ValueError), match=re.escape(message)):
        Client(url, verbose=False).predict(**(SETTINGS | changed), api_name="/generate")


@pytest.fixture(scope="module")
def page(url):
    chromium = shutil.which("chromium") or pytest.fail("Debian's chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.problems, page.foreign = [], []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else page.foreign.append(r.url))
        page.goto(url)
        yield page
        browser.close()


def picture(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def finished(page):
    page.wait_for_function(
        "document.querySelector('.viewer progress')?.value === document.querySelector('.viewer progress')?.max"
    )
    page.get_by_role("button", name="Generate").and_(page.locator(":enabled")).wait_for()


def frames_until(page, enough, patience=30):
    """The distinct pictures of the clean estimate that the page shows, as they come."""
    seen, deadline = [], time.monotonic() + patience
    while time.monotonic() < deadline and not enough(seen):
        source = page.locator(".viewer img").nth(1).get_attribute("src")
        if source not in seen:
            seen.append(source)
    return seen


def settings_shown(page):
    return page.locator(".viewer figure").get_attribute("data-settings")


def test_the_page_opens_on_a_run(page):
    page.locator(".viewer img").first.wait_for()
    finished(page)
    picture(page, "opened")
    assert '"class_label": "all"' in settings_shown(page)


def test_a_seven_is_drawn_before_the_eyes(page):
    page.get_by_label("7", exact=True).check()
    page.get_by_role("button", name="Generate").click()
    seen = frames_until(page, lambda seen: len(seen) >= 12)
    picture(page, "running")
    assert len(seen) >= 12  # the opening run's last frame is one of them
    finished(page)
    picture(page, "finished")
    assert '"class_label": "7"' in settings_shown(page)
    caption = page.locator(".viewer .numbers").inner_text()
    assert re.search(r"step\s+20 of 20", caption) and re.search(r"network calls\s+20", caption)
    style = page.locator(".viewer img").first.evaluate("e => getComputedStyle(e).imageRendering")
    assert style == "pixelated"


def test_stop_in_mid_run_and_generate_again(page):
    page.get_by_label("Steps").first.fill("1000")
    page.get_by_label("Steps").first.press("Enter")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function("document.querySelector('.viewer progress').max === 1000")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Generate").and_(page.locator(":enabled")).wait_for()
    time.sleep(1)
    stopped = page.locator(".viewer progress").evaluate("e => e.value")
    time.sleep(1)
    assert page.locator(".viewer progress").evaluate("e => e.value") == stopped < 1000
    picture(page, "stopped")
    page.get_by_label("Steps").first.fill("10")
    page.get_by_label("Steps").first.press("Enter")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_function("document.querySelector('.viewer progress').max === 10")
    finished(page)


def test_nothing_was_fetched_from_elsewhere_and_nothing_broke(page):
    assert page.problems == [] and page.foreign == []


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    picture(page, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 391
