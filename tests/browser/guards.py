"""What goes for every page that a test opens: a clean console, nothing leaves the machine, nobody's text runs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, WebSocket


class Guards:
    """Watches the pages of a context. `allow` says what of the console is part of a test."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._context, self._host = context, urlsplit(url).netloc
        self._allowed: list[str] = []
        self._found: list[str] = []
        context.on("page", self._watch)

    def allow(self, pattern: str) -> None:
        """Nothing is wrong with lines of the console that the regular expression finds."""
        self._allowed.append(pattern)

    def check(self) -> None:
        """Fails for whatever should not have happened so far."""
        for page in self._context.pages:
            assert page.evaluate("window.owned") is None, "somebody's text ran as a script"
        wrong = [line for line in self._found if not any(re.search(pattern, line) for pattern in self._allowed)]
        assert not wrong, "\n".join(wrong)

    def _watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._found.append(f"uncaught: {error}"))
        page.on("request", self._on_request)
        page.on("websocket", self._on_socket)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._found.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _on_request(self, request: Request) -> None:
        self._check_address(request.url)

    def _on_socket(self, socket: WebSocket) -> None:
        self._check_address(socket.url)

    def _check_address(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self._host:
            self._found.append(f"left the machine: {url}")
