"""Where nothing was measured nothing is drawn, and what is drawn is what was measured."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect
from tests.browser.chatting import choose
from tests.browser.serving import Served


def add(page: Page, name: str) -> Locator:
    """A persona in the recipe, by the panel's own search."""
    page.get_by_role("button", name="Add persona or trait").click()
    box = page.get_by_role("combobox", name="Add persona or trait")
    box.fill(name)
    box.press("Enter")
    return page.get_by_role("region", name=name)


def test_the_slider_of_an_unmeasured_persona_is_plain_and_says_so(page: Page) -> None:
    part = add(page, "draft")
    slider = part.get_by_role("slider", name="Strength of draft")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("not measured"))
    expect(part.locator(".band, .mark")).to_have_count(0)
    expect(part).to_contain_text("Not measured.")
    expect(part.get_by_role("button", name="Run a sweep")).to_be_visible()
    expect(part).not_to_contain_text(re.compile(r"coherence \d"))


def test_a_calibration_is_one_point_and_no_curve(page: Page) -> None:
    choose(page, "sage")
    part = page.get_by_role("region", name="sage")
    slider = part.get_by_role("slider")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"effect 0\.83, coherence 78$"))
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^\+2.*not measured at this strength$"))
    expect(part).to_contain_text("Measured at strength 1 only.")


def test_the_lab_draws_nothing_before_something_was_measured(page: Page, server: Served) -> None:
    page.goto(f"{server.url}/#/lab/sweep?name=sage")
    panel = page.get_by_role("tabpanel", name="Sweep")
    expect(panel.get_by_text("No sweep of sage on this model yet")).to_be_visible()
    expect(panel.get_by_role("button", name="Measure")).to_be_visible()
    expect(panel.get_by_role("figure")).to_have_count(0)
