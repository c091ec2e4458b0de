"""What axe-core finds on the real page: no serious violation in any tab, in light and dark, on a desk and on a phone."""

import pytest
from browser import PATIENCE, ROOMS, browser, finished, open_tab, room, violations  # noqa: F401 some are fixtures

# What a tab shows once it is complete.
COMPLETE = {
    "Compare": "td img",
    "Draw": ".player[data-done=true]",
    "Playground": ".plane[data-run]",
    "Noise pad": "canvas",
    "Latent space": ".player[data-done=true]",
    "Evidence": ".facts",
}


def unfold(page):
    """Open everything that folds in the tab on show, which axe-core would not read otherwise."""
    page.evaluate(
        """() => { for (const fold of document.querySelectorAll("details:not([open])"))
             if (fold.offsetParent) fold.open = true;
           for (const head of document.querySelectorAll("button.label-wrap:not(.open)"))
             if (head.offsetParent) head.click(); }"""
    )


def visit(server, browser, theme, width, height):
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{server.url}/?__theme={theme}&steps=5")
    finished(page)
    return page


@pytest.mark.slow
@pytest.mark.parametrize("theme, width, height", [("light", 1400, 900), ("dark", 1400, 900), ("dark", 390, 844)])
def test_no_tab_has_a_serious_violation(server, browser, theme, width, height):
    page = visit(server, browser, theme, width, height)
    for tab in ROOMS:
        open_tab(page, tab)
        room(page, tab).locator(COMPLETE.get(tab, "img, svg, canvas")).first.wait_for()
        unfold(page)
        assert violations(page) == [], tab
    page.close()


def test_a_violation_is_found(browser):
    page = browser.new_page()
    page.set_content(
        "<html lang=en><title>A page</title><main><h1>A page</h1><p style='color: #aaa'>faint</p><input></main>"
    )
    assert [line.split(":")[0] for line in violations(page)] == ["color-contrast", "label"]
    page.close()
