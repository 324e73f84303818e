"""A trait from two words to a steered answer."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.chatting import answered, ask, messages, set_most_tokens
from tests.browser.serving import Served

LONG = 600_000  # milliseconds, for a machine that has much else to do


def test_a_trait_is_made_measured_and_used(page: Page, server: Served) -> None:
    page.get_by_role("link", name="Studio").click()
    page.get_by_role("link", name=re.compile("^Make a trait")).click()
    page.get_by_role("textbox", name="Word", exact=True).fill("loud")
    page.get_by_role("textbox", name="Opposite").fill("quiet")
    page.get_by_role("button", name="Look at its prompts").click()

    expect(page.get_by_role("heading", level=1, name="Review loud")).to_be_visible()
    first = page.get_by_role("textbox", name=re.compile("loud|shows", re.I)).first
    first.fill("You are loud. You shout every word.")
    page.get_by_role("radio", name=re.compile("^quick")).check()
    estimate = page.get_by_role("region", name="Effort and estimate")
    expect(estimate).to_contain_text(re.compile(r"\d+ answers, about"), timeout=LONG)
    page.get_by_role("button", name="Make it").click()

    progress = page.get_by_role("region", name="Progress")
    expect(progress.get_by_role("progressbar").first).to_be_visible()
    address = page.url
    page.get_by_role("link", name="Chat").click()  # it goes on without anybody watching
    page.goto(address)
    result = page.get_by_role("article", name="Result for loud")
    expect(result).to_be_visible(timeout=LONG)
    with server.client() as client:
        card = client.get("/api/v1/traits/loud").json()
    assert "You are loud. You shout every word." in card["system_prompts"]
    expect(result).to_contain_text(card["status"])

    result.get_by_role("button", name="Use in chat").click()
    set_most_tokens(page, 8)
    ask(page, "How was your day?")
    answered(page)
    applied = messages(server, page)[-1]["made"]["segments"][0]["applied"]["applied"]
    assert [(one["name"], one["kind"]) for one in applied] == [("loud", "trait")]
