"""What the page is made of: one small load, from this server alone."""

from __future__ import annotations

from playwright.sync_api import Page, expect


def test_it_opens_on_the_chat(page: Page) -> None:
    expect(page.get_by_role("link", name="Chat")).to_have_attribute("aria-current", "page")
