"""A real headless browser on the real app, and how its tests find their way about."""

import os
import shutil
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

PATIENCE = 40_000  # milliseconds: the machine may be busy
SERIOUS = ("serious", "critical")


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
    "Generate": "generate", "Forward process": "forward", "Playground": "playground", "Compare": "compare", "Draw": "draw",
    "Noise pad": "noise", "Latent space": "latent", "Why small steps?": "small-steps", "Evidence": "evidence",
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
    raise AssertionError(f"no finished run within {PATIENCE // 1000} seconds: {shown}")


def canvas_bytes(page, panel="x0", tab="Generate") -> str:
    return player(page, tab).locator(f"canvas[data-panel={panel}]").evaluate("e => e.toDataURL()")


def number(page, label, value):
    box = page.get_by_label(f"number input for {label}").first
    box.fill(str(value))
    box.press("Enter")


def violations(page):
    """The serious violations on the page: rule, element, and what is wrong."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
