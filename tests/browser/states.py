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


def _welcome(page: Page) -> None:
    """A new conversation, answered as steered."""
    page.evaluate("location.hash = '#/chat'")
    if page.get_by_role("button", name="Close the panel").is_visible():
        page.keyboard.press("Escape")
    page.get_by_role("tab", name="Steered").click()
    expect(page.get_by_role("heading", name="Who should answer?")).to_be_visible()


def _tokens(page: Page) -> None:
    """Tokens in colours, which stay until somebody turns them off."""
    _conversation(page)
    colours = page.get_by_role("button", name="Colour the tokens by a direction")
    if colours.get_attribute("aria-pressed") == "false":
        colours.click()
    expect(page.get_by_role("region", name="Inside the model")).to_be_visible()
    expect(page.get_by_text("Reading the tokens…")).to_have_count(0)


def _conversation(page: Page) -> None:
    """The newest one, as its link in the list opens it."""
    _welcome(page)
    show = page.get_by_role("button", name="Conversations")
    listed = page.get_by_role("complementary", name="Conversations")
    if not listed.is_visible():
        show.click()
    listed.get_by_role("link").first.click()
    expect(page.get_by_role("article", name="Answer").last).to_be_visible()


def _chosen(before: Lead, role: str, name: str) -> Lead:
    """The state that follows when something of that role and name was pressed."""

    def lead(page: Page) -> None:
        before(page)
        page.get_by_role("main").get_by_role(role, name=name).first.click()  # type: ignore[arg-type]

    return lead


def _recipe(page: Page) -> None:
    """The panel with the first two vectors there are."""
    _welcome(page)
    panel = page.get_by_role("complementary", name="Recipe")
    if not panel.is_visible():
        page.get_by_role("button", name="Recipe", exact=True).click()
    sliders = panel.get_by_role("slider", name="Strength of")
    for count in (1, 2):
        if sliders.count() < count:
            panel.get_by_role("button", name="Add persona or trait").click()
            panel.get_by_role("combobox", name="Add persona or trait").press("Enter")
            expect(sliders).to_have_count(count)


_library = _screen("library", "Use in chat")
STATES: dict[str, Lead] = {
    "welcome": _welcome,
    "conversation": _conversation,
    "why": _pressed(_conversation, "Why?"),
    "sampling": _pressed(_conversation, "Sampling, seed and system prompt"),
    "tokens": _tokens,
    "compare": _chosen(_conversation, "tab", "Compare"),
    "recipe": _recipe,
    "search": _pressed(_recipe, "Add persona or trait"),
    "code": _pressed(_recipe, "Code"),
    "palette": _keyed(_welcome, "Control+k", "listbox", "Commands"),
    "keys": _keyed(_welcome, "?", "dialog", "Keys"),
    "jobs": _keyed(_pressed(_welcome, "Jobs"), "Shift", "dialog", "Jobs"),
    "studio": _screen("studio", "Describe a persona"),
    "studio-persona": _screen("studio/persona?way=archetype", "pirate"),
    "studio-trait": _screen("studio/trait", "Traits with good prompts"),
    "studio-axes": _screen("studio/axes", "Safety axis"),
    "lab": _screen("lab", "Measure a sweep"),
    "lab-layers": _screen("lab/layers", "Measure the layers"),
    "lab-similarity": _screen("lab/similarity", "Compare vectors"),
    "lab-projection": _screen("lab/projection", "Read a text along directions"),
    "lab-battery": _screen("lab/battery", "Answer prompts under several recipes"),
    "library": _library,
    "library-card": _pressed(_library, "Card"),
    "library-axes": _screen("library/axes", "safety"),
    "library-presets": _screen("library/presets", "No preset yet"),
    "library-models": _screen("library/models", "embedded"),
    "library-import": _pressed(_library, "Import"),
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
