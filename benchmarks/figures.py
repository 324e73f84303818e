"""Writes the measured figures of `results/` into README.md: what stands there was measured, or does not stand there."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKS = ("<!-- figures:begin -->", "<!-- figures:end -->")
NAMES = ("steering", "products", "extraction", "evaluation", "server", "batching", "cli_start", "page")


def section() -> str:
    """One table for every machine and model that results were written for."""
    parts = []
    results = [json.loads(file.read_text()) for name in NAMES for file in sorted((HERE / "results").glob(f"{name}-*"))]
    for machine in dict.fromkeys(result["machine"] for result in results):
        rows = ["| figure | measured | target | |", "| --- | --- | --- | --- |"]
        for result in (one for one in results if one["machine"] == machine):
            rows += [row(figure) for figure in result["figures"]]
        parts.append(f"{machine}:\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def row(figure: dict) -> str:  # type: ignore[type-arg]
    """Name, value with its spread over the turns, target and verdict."""
    unit = f" {figure['unit']}" if figure["unit"] else ""
    spread = "" if figure["low"] is None else f" ({figure['low']:.2f} to {figure['high']:.2f})"
    bound = "" if figure["target"] is None else f"{'≤' if figure['at_most'] else '≥'} {figure['target']:g}"
    verdict = {None: "", True: "met", False: "**missed**"}[figure["met"]]
    return f"| {figure['name']} | {figure['value']:.2f}{unit}{spread} | {bound} | {verdict} |"


def page() -> str:
    """README with the section replaced."""
    text = README.read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n{section()}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    README.write_text(page())
