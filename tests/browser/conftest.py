"""A real server of the embedded model out of the built wheel, and Chromium at it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.browser.chromium import executable, launch
from tests.browser.guards import Guards
from tests.browser.serving import Served
from tests.browser.workspace import prepare

from persona_steering.backends.transformers.backend import TransformersBackend

TOP = Path(__file__).parent.parent.parent
SECONDS = 1000
expect.set_options(timeout=30 * SECONDS)  # a small machine writes an answer in half a minute


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(TOP)).build(directory=str(folder), versions=["standard"])))


@pytest.fixture(scope="session")
def package(wheel: Path) -> Path:
    """The wheel's content, from which the server runs."""
    folder = wheel.parent / "package"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def prepared(embedded_backend: TransformersBackend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace as it is before anybody has used it."""
    home = tmp_path_factory.mktemp("prepared")
    prepare(home, embedded_backend)
    return home


@pytest.fixture(scope="session")
def server(
    prepared: Path, package: Path, model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The server of most tests."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(prepared, home, dirs_exist_ok=True)
    served = Served(home, model_cache, package)
    served.start()
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # one for each file, since no other test can run an event loop while Playwright has its own
    if executable() is None:
        missing = "there is no Chromium here: apt-get install chromium"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as playwright, launch(playwright) as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Somebody who comes for the first time."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(30 * SECONDS)
    yield context
    context.close()


@pytest.fixture
def guards(context: BrowserContext, server: Served) -> Iterator[Guards]:
    watching = Guards(context, server.url)
    yield watching
    watching.check()


@pytest.fixture
def page(context: BrowserContext, guards: Guards, server: Served) -> Page:
    """The page, as it opens."""
    page = context.new_page()
    page.goto(server.url)
    return page
