"""The server dies in the middle of an answer, and comes back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.browser.chatting import answered, answers, ask, choose, messages, set_most_tokens
from tests.browser.guards import Guards
from tests.browser.serving import Served


@pytest.fixture
def server(prepared: Path, package: Path, model_cache: Path, tmp_path: Path) -> Iterator[Served]:
    """One that no other test needs."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    served = Served(tmp_path, model_cache, package)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def test_what_was_written_is_kept_and_the_page_goes_on_by_itself(page: Page, server: Served, guards: Guards) -> None:
    guards.allow("Failed to load resource|WebSocket connection .* failed")  # while there is no server
    choose(page, "sage")
    set_most_tokens(page, 200)
    ask(page)
    answer = answers(page).last
    expect(answer).to_contain_text(re.compile(r"(\w+\W+){12}"))  # enough that some of it has been stored
    server.kill()
    banner = page.get_by_text("The server cannot be reached.").first
    expect(banner).to_be_visible()
    box = page.get_by_role("textbox", name="Message", exact=True)
    box.fill("typed while it was away")

    server.start()
    expect(banner).to_be_hidden()
    expect(answer).to_contain_text("The server stopped in the middle of this.")
    kept = messages(server, page)[-1]
    assert kept["status"] == "interrupted" and kept["content"]
    expect(box).to_have_value("typed while it was away")
    set_most_tokens(page, 8)
    answer.get_by_role("button", name="Answer once more").click()
    expect(answered(page)).to_contain_text("2/2")
