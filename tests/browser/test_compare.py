"""Two answers to one question: the same history, the same seed."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.chatting import QUESTION, answered, answers, choose, messages, send, set_most_tokens
from tests.browser.serving import Served


def test_base_and_steered_answer_side_by_side_with_one_seed(page: Page, server: Served) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 16)
    page.get_by_role("tab", name="Compare").click()
    send(page)
    base, steered = (page.get_by_role("article", name=name) for name in ("Base model", "pirate"))
    for lane in (base, steered):
        expect(lane).to_have_attribute("aria-busy", "false")
        expect(lane).to_contain_text("16 tokens")
    assert base.locator(".body, p").first.inner_text() != steered.locator(".body, p").first.inner_text()
    expect(page.get_by_text(re.compile(r"Both with seed \d+\."))).to_be_visible()
    page.get_by_role("checkbox", name="Mark different words").check()
    expect(page.get_by_role("mark").first).to_be_visible()

    steered.get_by_role("button", name="Go on with this").click()
    expect(answers(page)).to_have_count(1)
    expect(answered(page)).to_contain_text("pirate 1")
    question, *both = messages(server, page)
    assert question["content"] == QUESTION
    assert len({one["made"]["sampling"]["seed"] for one in both}) == 1
    assert sorted(bool(one["made"]["segments"][0]["applied"]) for one in both) == [False, True]


def test_a_blind_vote_is_asked_for_before_anybody_knows_which_is_which(page: Page) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 6)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("checkbox", name="Vote blind").check()
    send(page)
    vote = page.get_by_role("group", name="Which answer is better?")
    vote.get_by_role("button", name="Answer A").wait_for()
    compared = page.get_by_role("log", name="Compared answers")
    expect(compared).not_to_contain_text(re.compile("pirate|[Bb]ase model"))
    vote.get_by_role("button", name="Answer A").click()
    expect(compared.get_by_role("article", name="Base model")).to_be_visible()
    expect(compared).to_contain_text("1 blind vote")
