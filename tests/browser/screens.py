"""Pictures of every state of the page, at three widths, light and dark, for people to look at.

Usage: python -m tests.browser.screens FOLDER [HOME]

HOME is a copy of somebody's PERSONA_STEER_HOME; without it the vectors are those of the tests, whose calibrations are
made up.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.browser.chatting import answered, ask, set_most_tokens
from tests.browser.chromium import launch
from tests.browser.serving import Served
from tests.browser.states import STATES, THEMES, WIDTHS, choose_theme
from tests.browser.workspace import prepare

from persona_steering.backends import load
from persona_steering.config import user_cache_dir

SOURCE = Path(__file__).parent.parent.parent / "src"
PATIENCE = 60_000  # milliseconds
QUESTIONS = ("What makes a good day?", "How should I start learning to cook?")


def main(folder: str, home: str = "") -> None:
    with tempfile.TemporaryDirectory(prefix="persona-steer-screens-") as temporary:
        own = Path(temporary) / "home"
        if home:
            shutil.copytree(home, own)
        else:
            with load("embedded", device="cpu", dtype="float32", cache=user_cache_dir()) as backend:
                prepare(own, backend)
        served = Served(own, user_cache_dir(), SOURCE)
        served.start()
        try:
            with sync_playwright() as playwright:
                picture(launch(playwright), served.url, Path(folder))
        finally:
            served.stop()


def picture(browser: Browser, url: str, folder: Path) -> None:
    """One PNG for each state, width and theme."""
    expect.set_options(timeout=PATIENCE)
    page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    page.goto(url)
    _talk(page)
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            choose_theme(page, theme)
            for name, lead in STATES.items():
                page.keyboard.press("Escape")
                lead(page)
                page.wait_for_timeout(300)  # what was asked for has come, and moves no more
                page.screenshot(path=folder / f"{name}-{width}-{theme}.png")


def _talk(page: Page) -> None:
    """A conversation with the first character there is."""
    page.get_by_role("main").get_by_role("listitem").get_by_role("button", pressed=False).first.click()
    set_most_tokens(page, 60)
    for question in QUESTIONS:
        ask(page, question)
        answered(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
