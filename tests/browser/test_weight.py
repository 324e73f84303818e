"""How much is loaded before somebody sees the first screen."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Response, expect
from tests.browser.guards import Guards
from tests.browser.serving import Served

FIRST_LOAD = 150 * 1024  # bytes, packed


def test_the_first_load_is_small_and_has_no_charts(context: BrowserContext, guards: Guards, server: Served) -> None:
    loaded: list[Response] = []
    page = context.new_page()
    page.on("response", lambda response: loaded.append(response))
    page.goto(server.url)
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
    page.wait_for_load_state("load")
    files = {
        response.url.removeprefix(server.url): response.request.sizes()["responseBodySize"]
        for response in loaded
        if "/api/" not in response.url
    }
    assert "/assets/index.js" in files
    assert sum(files.values()) <= FIRST_LOAD, files
    (script,) = (response for response in loaded if response.url.endswith("/assets/index.js"))
    assert script.headers["content-encoding"] == "gzip"


def test_coming_back_loads_nothing_again(context: BrowserContext, guards: Guards, server: Served) -> None:
    page = context.new_page()
    page.goto(server.url)
    expect(page.get_by_role("textbox", name="Message", exact=True)).to_be_visible()
    with page.expect_response(lambda response: response.url.endswith("/assets/index.js")) as again:
        page.reload()
    assert again.value.request.sizes()["responseBodySize"] == 0  # it only asks whether the file still holds
