"""Long conversations open at their end, and are whole."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from tests.browser.hostile import conversation
from tests.browser.serving import Served

TURNS = 200
TEXT = "A paragraph of an answer, with **bold words** and `code`.\n\n- one\n- two\n\n" * 3


def test_two_hundred_messages_open_at_the_end(page: Page, server: Served) -> None:
    texts = [f"Message {i}. {TEXT if i % 2 else 'And then?'}" for i in range(TURNS)]
    with server.client() as client:
        name = client.post("/api/v1/conversations/import", json=conversation("A long one", *texts)).json()["id"]
    page.goto(f"{server.url}/#/chat/{name}")
    shown = page.get_by_role("article")
    expect(shown).to_have_count(TURNS)
    expect(shown.last).to_contain_text(f"Message {TURNS - 1}.")
    expect(shown.last).to_be_in_viewport()
