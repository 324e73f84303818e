"""What somebody does in the chat, by the names that things have there."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect
from tests.browser.serving import Served

QUESTION = "Tell me about the sea."


def choose(page: Page, name: str) -> None:
    """Takes a character of the first screen."""
    card = page.get_by_role("button", name=re.compile(f"^{name} "))
    card.click()
    expect(card).to_have_attribute("aria-pressed", "true")


def ask(page: Page, text: str = QUESTION) -> None:
    """Sends a message, and waits until its answer has begun."""
    before = answers(page).count()
    send(page, text)
    expect(answers(page)).to_have_count(before + 1)


def send(page: Page, text: str = QUESTION) -> None:
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill(text)
    box.press("Enter")


def answers(page: Page) -> Locator:
    return page.get_by_role("article", name="Answer")


def answered(page: Page) -> Locator:
    """The last answer, when it has ended."""
    last = answers(page).last
    expect(last).to_have_attribute("aria-busy", "false")
    return last


def set_most_tokens(page: Page, count: int) -> None:
    """How long the next answers may get."""
    page.get_by_role("button", name="Sampling, seed and system prompt").click()
    field = page.get_by_role("spinbutton", name="Tokens at most")
    field.fill(str(count))
    field.press("Enter")
    page.keyboard.press("Escape")


def conversation_of(page: Page) -> str:
    """The identifier in the address."""
    return page.url.rpartition("/")[2]


def messages(server: Served, page: Page) -> list[dict[str, Any]]:
    """What the server has kept of the conversation that is shown."""
    with server.client() as client:
        found: list[dict[str, Any]] = client.get(f"/api/v1/conversations/{conversation_of(page)}/messages").json()[
            "messages"
        ]
    return found
