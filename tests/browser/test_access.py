"""Every screen for everybody: axe finds nothing to object to, in any state, light or dark, wide or narrow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.browser.chatting import answered, ask, choose, set_most_tokens
from tests.browser.states import STATES, THEMES, WIDTHS, choose_theme

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def objections(page: Page) -> list[str]:
    """What axe has against the page as it is."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{one['id']}: {node['html'][:160]} ({one['help']})" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_stands_in_anybodys_way(width: int, theme: str, page: Page) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 8)
    ask(page)
    answered(page)
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    choose_theme(page, theme)
    wrong = []
    for name, lead in STATES.items():
        page.keyboard.press("Escape")
        lead(page)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        wrong += [f"{name}: {objection}" for objection in objections(page)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    page.reload()
    for name in ("welcome", "studio", "lab", "library"):
        STATES[name](page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_the_theme_is_that_of_the_system_until_somebody_chooses(page: Page) -> None:
    root = page.locator("html")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Light colours").click()
    expect(root).to_have_attribute("data-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-theme", "light")
