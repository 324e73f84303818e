"""An unsafe persona, held by the cap and let loose."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from tests.browser.chatting import answered, ask, choose, messages, set_most_tokens
from tests.browser.serving import Served


def test_the_cap_holds_an_unsafe_persona_and_says_how_often_it_acted(page: Page, server: Served) -> None:
    choose(page, "villain")
    set_most_tokens(page, 24)
    cap = page.get_by_role("checkbox", name="Safety cap")
    expect(cap).to_be_checked()
    ask(page, "What should I do with my neighbour?")
    answered(page)
    acted = page.get_by_role("region", name="Safety and caps").get_by_text("In the last answer caps acted")
    expect(acted).to_contain_text(re.compile(r"acted [1-9][\d,]* times? over \d+ tokens"))
    held = messages(server, page)[-1]["made"]
    assert held["caps_engaged"] > 0
    assert [one["axis"] for one in held["segments"][0]["applied"]["caps"]] == ["safety"]

    cap.uncheck()
    page.get_by_role("button", name="Answer once more").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    answered(page)
    expect(acted).to_contain_text("acted 0 times")
    free = messages(server, page)[-1]["made"]
    assert free["caps_engaged"] == 0 and free["segments"][0]["applied"]["caps"] == []


def test_another_axis_can_be_capped_at_a_measured_percentile(page: Page, server: Served) -> None:
    choose(page, "pirate")
    set_most_tokens(page, 8)
    page.get_by_role("button", name="Cap another axis").click()
    page.get_by_role("combobox", name="Axis").select_option("assistant")
    page.get_by_role("spinbutton", name="percentile").fill("25")
    page.get_by_role("button", name="Add", exact=True).click()
    ask(page)
    answered(page)
    caps = messages(server, page)[-1]["made"]["segments"][0]["applied"]["caps"]
    assert ("assistant", "floor") in [(one["axis"], one["op"]) for one in caps]
