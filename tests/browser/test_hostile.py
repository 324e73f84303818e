"""What models and people write stays text, wherever it is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from tests.browser.chatting import answers, ask
from tests.browser.guards import Guards
from tests.browser.hostile import ANSWER, FORBIDDEN, conversation
from tests.browser.serving import Served
from tests.browser.workspace import HOSTILE


def imported(server: Served, title: str, *texts: str) -> str:
    """The identifier of a conversation with these texts."""
    with server.client() as client:
        reply = client.post("/api/v1/conversations/import", json=conversation(title, *texts))
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


def test_an_answer_is_markdown_and_never_markup(page: Page, server: Served) -> None:
    page.goto(f"{server.url}/#/chat/{imported(server, HOSTILE, HOSTILE, ANSWER)}")
    answer = answers(page)
    expect(answer.locator("strong")).to_have_text("bold")
    expect(answer.locator("pre")).to_contain_text("<script>window.owned = 10</script>")
    body = answer.locator(".body")
    expect(body.locator(FORBIDDEN)).to_have_count(0)
    expect(body).to_contain_text("<iframe srcdoc=")  # as it stands, and not left out
    for link in body.locator("a").all():
        assert (link.get_attribute("href") or "https://").startswith(("https://", "http://"))
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    expect(page.get_by_role("article", name="You")).to_contain_text(HOSTILE)
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)


def test_an_answer_is_no_markup_while_it_is_written_either(page: Page, server: Served) -> None:
    def piecewise(route: WebSocketRoute) -> None:
        """The real server answers, but its tokens say something else."""
        upstream = route.connect_to_server()
        pieces = [ANSWER[i : i + 7] for i in range(0, len(ANSWER), 7)]

        def forward(text: str | bytes) -> None:
            frame: dict[str, Any] = json.loads(text)
            if frame.get("type") == "token":
                frame["text"] = "".join(pieces[:40])
                del pieces[:40]
            route.send(json.dumps(frame))

        upstream.on_message(forward)

    page.route_web_socket("**/api/v1/live", piecewise)
    page.reload()
    page.evaluate(
        """forbidden => {
        window.seen = 0;
        new MutationObserver(() => { window.seen += document.querySelectorAll(forbidden).length })
            .observe(document.body, { subtree: true, childList: true });
    }""",
        f":is({FORBIDDEN}):is(article *)",
    )
    ask(page)
    expect(answers(page).last).to_contain_text("over everything")
    expect(answers(page).last).to_have_attribute("aria-busy", "false")
    assert page.evaluate("window.seen") == 0


@pytest.mark.parametrize("screen", ["chat", "library"])
def test_a_description_is_text_on_every_screen_that_shows_it(screen: str, page: Page, server: Served) -> None:
    page.goto(f"{server.url}/#/{screen}")
    expect(page.get_by_role("main").get_by_text("hostile").first).to_be_visible()
    expect(page.get_by_role("main").locator("img, iframe, script, style, [onerror]")).to_have_count(0)
    expect(page.get_by_role("main")).not_to_contain_text("49")  # nothing of it was computed


def test_an_address_that_somebody_made_up_becomes_no_markup(page: Page, server: Served, guards: Guards) -> None:
    guards.allow("status of 400")  # there is no such conversation
    page.goto(f"{server.url}/#/chat?r=AAAA")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
    page.goto(f"{server.url}/#/%3Cimg%20src=x%20onerror=window.owned=1%3E/<script>")
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
