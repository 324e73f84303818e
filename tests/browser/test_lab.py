"""A sweep from its order to the answers behind a point."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from tests.browser.guards import Guards
from tests.browser.serving import Served

LONG = 600_000  # milliseconds, for a machine that has much else to do


def test_the_old_address_of_the_plots_opens_the_lab(page: Page, server: Served) -> None:
    page.goto(f"{server.url}/visualization")
    expect(page.get_by_role("heading", level=1, name="Lab")).to_be_visible()


def test_a_sweep_is_measured_drawn_and_opened_at_a_point(page: Page, server: Served, guards: Guards) -> None:
    page.goto(f"{server.url}/#/lab")
    page.get_by_role("combobox", name="Persona or trait").select_option(label="pirate")
    for label, value in (
        ("From", "-1"),
        ("To", "1"),
        ("Strengths", "3"),
        ("Questions", "2"),
        ("Random directions", "1"),
    ):
        page.get_by_role("spinbutton", name=label).fill(value)
    page.get_by_role("button", name="Measure").click()

    figure = page.get_by_role("figure", name="Sweep of pirate")
    expect(figure).to_be_visible(timeout=LONG)
    expect(figure.get_by_role("group", name=re.compile("panel"))).to_have_count(2)
    points = figure.get_by_role("button", name=re.compile("strength|pirate"))
    points.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    opened = page.get_by_role("dialog", name=re.compile("pirate at strength"))
    expect(opened.get_by_role("article").first).to_contain_text("Coherence")
    page.keyboard.press("Escape")

    with server.client() as client:
        run = client.get("/api/v1/sweeps", params={"name": "pirate"}).json()["data"][0]
        result = client.get(f"/api/v1/runs/{run['id']}/data").json()["result"]
    figure.get_by_role("button", name="Table").click()
    rows = figure.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(1 + len(result["points"]))
    for point, row in zip(result["points"], rows.all()[1:], strict=True):
        cells = [cell.replace("−", "-") for cell in row.get_by_role("cell").all_inner_texts()]
        measured = (point["strength"], point["steered"]["coherence"]["mean"], point["control"]["coherence"]["mean"])
        assert [float(cells[i]) for i in (1, 5, 9)] == pytest.approx(measured, abs=0.001)
