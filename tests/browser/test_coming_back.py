"""What was said, set and typed is there again after a reload."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from tests.browser.chatting import QUESTION, answered, answers, ask, choose, set_most_tokens


def test_a_reload_finds_the_conversation_the_recipe_and_what_was_being_typed(page: Page) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 8)
    ask(page)
    written = answered(page).locator(".body").inner_text()
    page.get_by_role("slider", name="Strength of pirate").press("PageDown")
    page.get_by_role("textbox", name="Message", exact=True).fill("half a thought")
    page.reload()
    expect(answers(page).last).to_contain_text(written)
    expect(page.get_by_role("article", name="You")).to_contain_text(QUESTION)
    expect(page.get_by_role("slider", name="Strength of pirate")).to_have_value("0.75")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_have_value("half a thought")


def test_conversations_are_found_by_their_words(page: Page) -> None:
    set_most_tokens(page, 4)
    ask(page, "Where do zebras sleep?")
    answered(page)
    page.get_by_role("button", name="New").click()
    page.get_by_role("searchbox", name="Search conversations").fill("zebras")
    found = page.get_by_role("complementary", name="Conversations").get_by_role("link")
    expect(found).to_have_count(1)
    found.click()
    expect(page.get_by_role("article", name="You")).to_contain_text("zebras")
