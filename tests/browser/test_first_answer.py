"""From the first look to a steered answer: three presses at most, by hand or by keyboard."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect
from tests.browser.chatting import QUESTION, answered, ask, choose, messages
from tests.browser.serving import Served


def test_a_steered_answer_takes_two_presses(page: Page, server: Served) -> None:
    choose(page, "pirate")
    page.get_by_role("button", name=QUESTION, exact=True).click()
    answer = answered(page)
    expect(answer).to_contain_text("pirate 1")
    question, kept = messages(server, page)
    assert question["content"] == QUESTION
    assert kept["status"] == "complete" and kept["content"]
    assert len(kept["made"]["segments"]) == 1, kept["made"]["segments"]
    (segment,) = kept["made"]["segments"]
    assert [one["name"] for one in segment["applied"]["applied"]] == ["pirate"]


def test_every_answer_says_what_was_applied_and_how_to_have_it_again(page: Page, server: Served) -> None:
    choose(page, "pirate")
    ask(page)
    answer = answered(page)
    answer.get_by_role("button", name="Why?").click()
    why = page.get_by_role("dialog", name="Why this answer")
    made = messages(server, page)[-1]["made"]
    for told in (str(made["sampling"]["seed"]), made["segments"][0]["applied"]["hash"], "pirate", "12–19"):
        expect(why).to_contain_text(told)


def test_the_first_answer_needs_no_mouse(page: Page) -> None:
    reach(page, page.get_by_role("button", name=re.compile("^sage ")))
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("button", name=QUESTION, exact=True))
    page.keyboard.press("Space")
    expect(answered(page)).to_contain_text("sage 1")
    page.keyboard.press("/")
    page.keyboard.type("And the sky?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="You").last).to_contain_text("And the sky?")
    answered(page)


def test_the_model_answers_as_it_is_when_nobody_was_chosen(page: Page, server: Served) -> None:
    ask(page)
    expect(answered(page)).to_contain_text("base model")
    assert messages(server, page)[-1]["made"]["segments"][0]["applied"] is None


def reach(page: Page, goal: Locator) -> None:
    """Goes from field to field until the goal has the focus; it must show that."""
    expect(goal).to_be_enabled()
    for _ in range(60):
        page.keyboard.press("Tab")
        if goal.evaluate("element => element === document.activeElement"):
            assert goal.evaluate("element => getComputedStyle(element).outlineStyle") != "none"
            return
    raise AssertionError(f"the keyboard does not lead to {goal}")
