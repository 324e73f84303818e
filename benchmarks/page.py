"""What the page costs a browser: its first load, a long conversation, and an answer whose tokens are coloured.

    python benchmarks/page.py
    python benchmarks/page.py --messages 1000

Chromium without a display drives the built page; times and frames are those that the page itself sees.
"""

from __future__ import annotations

import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Page, Response, sync_playwright
from timing import Figure, describe, model_parser, open_backend, positive, report

from server import serving

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu")
FIRST_LOAD, OPENING, SMOOTH = 150.0, 1.0, 59.0  # KiB, seconds, frames a second
TEXT = "A paragraph with **bold words** and `code`.\n\n- one\n- two\n\n" * 3
PATIENCE = 60_000  # milliseconds
OPENED = """([address, count]) => new Promise((resolve) => {
  const began = performance.now();
  location.hash = address;
  const look = () => {
    const shown = document.querySelectorAll("article");
    const last = shown[count - 1]?.getBoundingClientRect();
    if (last && last.top < innerHeight && last.bottom > 0) resolve((performance.now() - began) / 1000);
    else requestAnimationFrame(look);
  };
  look();
})"""
SCROLLED = """() => new Promise((resolve) => {
  const log = document.querySelector("[role=log]");
  let step = -30, frames = 0, worst = 0, before = 0, began = 0;
  const move = (now) => {
    if (began) { frames += 1; worst = Math.max(worst, now - before); } else began = now;
    before = now;
    if (log.scrollTop <= 0) step = 30;
    else if (log.scrollTop + log.clientHeight >= log.scrollHeight - 1) step = -30;
    log.scrollTop += step;
    if (now - began < 3000) requestAnimationFrame(move);
    else resolve({ rate: (1000 * frames) / (now - began), worst });
  };
  requestAnimationFrame(move);
})"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--messages", type=positive, default=200, help="of the long conversation")
    parser.set_defaults(tokens=500)
    options = parser.parse_args(arguments)
    with (
        open_backend(options) as backend,
        tempfile.TemporaryDirectory() as folder,
        serving(backend, Path(folder), clients=1, rows=options.batch) as (url, _),
        sync_playwright() as playwright,
    ):
        executable = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE)
        figures = [
            first_load(page, url),
            opening(page, url, options.messages, options.repeats),
            scrolling(page, url, options.tokens, options.repeats),
        ]
        browser.close()
        report("page", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


def first_load(page: Page, url: str) -> Figure:
    """Bytes of the page's files, as they came over the wire."""
    loaded: list[Response] = []
    page.on("response", lambda response: loaded.append(response))
    page.goto(url)
    page.get_by_role("textbox", name="Message", exact=True).wait_for()
    built = [one for one in loaded if "/api/" not in one.url]  # the streams among the others never end
    files = {one.url.removeprefix(url): one.request.sizes()["responseBodySize"] for one in built}
    size = sum(files.values()) / 1024
    return Figure("page: first load", size, target=FIRST_LOAD, at_most=True, unit="KiB", details={"files": files})


def opening(page: Page, url: str, messages: int, repeats: int) -> Figure:
    """Seconds from a press on a conversation to its last message on the screen."""
    name = imported(url, [f"Message {i}. {TEXT}" for i in range(messages)])
    seconds = []
    for _ in range(repeats):
        page.goto(f"{url}/#/chat")
        page.get_by_role("heading", name="Who should answer?").wait_for()
        seconds.append(page.evaluate(OPENED, [f"#/chat/{name}", messages]))
    return Figure(
        f"page: a conversation of {messages} messages opens",
        statistics.median(seconds),
        low=min(seconds),
        high=max(seconds),
        target=OPENING,
        at_most=True,
        unit="s",
    )


def scrolling(page: Page, url: str, tokens: int, repeats: int) -> Figure:
    """Frames a second while a thread with a coloured answer of so many tokens is scrolled up and down."""
    name = answered(url, tokens)
    page.goto(f"{url}/#/chat/{name}")
    page.get_by_role("button", name="Colour the tokens by a direction").click()
    coloured = page.get_by_role("listbox", name=re.compile("^Tokens")).get_by_role("option")
    coloured.nth(tokens // 2).wait_for(state="attached")
    time.sleep(0.5)
    found: list[dict[str, Any]] = [page.evaluate(SCROLLED) for _ in range(repeats)]
    rates = [one["rate"] for one in found]
    return Figure(
        f"page: {tokens} coloured tokens scroll",
        statistics.median(rates),
        low=min(rates),
        high=max(rates),
        target=SMOOTH,
        unit="frames/s",
        details={"longest_frame_ms": max(one["worst"] for one in found), "shown": coloured.count()},
    )


def imported(url: str, texts: Sequence[str]) -> str:
    """The identifier of a conversation with these texts, a question and an answer in turn."""
    now = time.time()
    messages = [
        {
            "id": f"m{i}",
            "parent_id": f"m{i - 1}" if i else None,
            "role": "assistant" if i % 2 else "user",
            "content": text,
            "status": "complete",
            "made": None,
            "created_at": now,
        }
        for i, text in enumerate(texts)
    ]
    file = {
        "format": "persona-steering conversation tree",
        "title": "A long one",
        "leaf_id": messages[-1]["id"],
        "created_at": now,
        "messages": messages,
    }
    reply = httpx2.post(f"{url}/api/v1/conversations/import", json=file, timeout=60).raise_for_status()
    return str(reply.json()["id"])


def answered(url: str, tokens: int) -> str:
    """The identifier of a conversation with a steered answer of so many tokens."""
    with httpx2.Client(base_url=url, timeout=600) as http:
        name = str(http.post("/api/v1/conversations", json={}).raise_for_status().json()["id"])
        asked = {
            "content": "Tell me a long story.",
            "steering": {"vectors": [{"name": "random-0", "coefficient": 0.2}], "safety": False},
            "sampling": {"max_tokens": tokens, "seed": 0},
        }
        http.post(f"/api/v1/conversations/{name}/messages", json=asked).raise_for_status()
    return name


if __name__ == "__main__":
    main()
