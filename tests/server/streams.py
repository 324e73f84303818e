"""Reading server-sent events of the native routes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2


def events_of(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and data, as they come."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
