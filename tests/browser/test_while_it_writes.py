"""An answer that is steered while it is written, and one that is stopped."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.chatting import answered, answers, ask, choose, messages, set_most_tokens
from tests.browser.serving import Served


def test_the_slider_steers_the_tokens_that_follow(page: Page, server: Served) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 120)
    ask(page)
    expect(answers(page).last).to_contain_text(re.compile(r"\w+ \w+ \w+"))  # it has begun
    slider = page.get_by_role("slider", name="Strength of pirate")
    slider.press("Home")
    changes = page.get_by_role("list", name="Changes of the recipe")
    expect(changes.get_by_role("listitem")).to_have_count(1)
    expect(changes).to_contain_text(re.compile(r"from token \d+: pirate [-−]2"))
    page.keyboard.press("Escape")
    answered(page)
    first, second = messages(server, page)[-1]["made"]["segments"]
    assert first["from_token"] == 0 and second["from_token"] > 0
    strengths = [segment["applied"]["applied"][0]["coefficient"] for segment in (first, second)]
    assert strengths == [1.0, -2.0]


def test_a_stopped_answer_keeps_what_was_written_and_says_so(page: Page, server: Served) -> None:
    set_most_tokens(page, 200)
    ask(page)
    expect(answers(page).last).to_contain_text(re.compile(r"\w+ \w+ \w+"))
    page.get_by_role("button", name="Stop").click()
    expect(answered(page)).to_contain_text("Stopped.")
    kept = messages(server, page)[-1]
    assert kept["status"] == "stopped" and kept["content"]
    page.get_by_role("button", name="Answer once more").click()
    expect(answers(page).last).to_contain_text("2/2")
    page.keyboard.press("Escape")
    answered(page)
    page.get_by_role("button", name="The version before").click()
    expect(answers(page).last).to_contain_text("1/2")
    expect(answers(page).last).to_contain_text("Stopped.")


def test_an_edited_question_begins_another_branch(page: Page, server: Served) -> None:
    set_most_tokens(page, 4)
    ask(page, "What is red?")
    answered(page)
    page.get_by_role("button", name="Edit, as another branch").click()
    box = page.get_by_role("textbox", name="Edit the message")
    expect(box).to_be_focused()
    box.fill("What is blue?")
    box.press("Enter")
    expect(page.get_by_role("article", name="You")).to_contain_text("What is blue?")
    answered(page)
    assert [one["content"] for one in messages(server, page) if one["role"] == "user"] == [
        "What is red?",
        "What is blue?",
    ]
    page.get_by_role("button", name="The version before").click()
    expect(page.get_by_role("article", name="You")).to_contain_text("What is red?")
