"""The page in the states that are worth a look, by name. Each leads there from wherever the page is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from playwright.sync_api import Page, expect

Lead = Callable[[Page], None]


def _go(page: Page, address: str, *, shows: str) -> None:
    page.evaluate("address => { location.hash = address }", f"#/{address}")
    expect(page.get_by_role("main").get_by_text(shows).first).to_be_visible()


def _screen(address: str, shows: str) -> Lead:
    return lambda page: _go(page, address, shows=shows)


def _pressed(before: Lead, *buttons: str) -> Lead:
    """The state that follows when those buttons were pressed."""

    def lead(page: Page) -> None:
        before(page)
        for name in buttons:
            page.get_by_role("button", name=name, exact=True).first.click()

    return lead


def _keyed(before: Lead, keys: str, role: str, name: str) -> Lead:
    """The state that follows on a key, when something of that role and name is there."""

    def lead(page: Page) -> None:
        before(page)
        page.keyboard.press(keys)
        expect(page.get_by_role(role, name=name)).to_be_visible()  # type: ignore[arg-type]

    return lead


def _conversation(page: Page) -> None:
    """The newest one, as its link in the list opens it."""
    _welcome(page)
    show = page.get_by_role("button", name="Conversations")
    listed = page.get_by_role("complementary", name="Conversations")
    if not listed.is_visible():
        show.click()
    listed.get_by_role("link").first.click()
    expect(page.get_by_role("article", name="Answer").last).to_be_visible()


_welcome = _screen("chat", "Who should answer?")
STATES: dict[str, Lead] = {
    "welcome": _welcome,
    "conversation": _conversation,
    "why": _pressed(_conversation, "Why?"),
    "sampling": _pressed(_conversation, "Sampling, seed and system prompt"),
    "palette": _keyed(_welcome, "Control+k", "listbox", "Commands"),
    "keys": _keyed(_welcome, "?", "dialog", "Keys"),
    "studio": _screen("studio", "persona"),
    "lab": _screen("lab", "Sweep"),
    "library": _screen("library", "pirate"),
}
THEMES = ("light", "dark")
WIDTHS = {1440: 900, 1024: 768, 390: 844}  # and their heights


def choose_theme(page: Page, theme: str) -> None:
    """As the button in the header does; a reload takes it over."""
    page.evaluate("theme => localStorage.setItem('persona-steer.theme', theme)", theme)
    page.reload()


def each(states: Iterable[str] = STATES) -> list[tuple[str, str]]:
    """Every state in every theme."""
    return [(state, theme) for state in states for theme in THEMES]
