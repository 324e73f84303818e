"""Reads server-sent events, as a page does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.server.api import Api


@dataclass(frozen=True)
class Event:
    """One event. `id` is empty where it has none."""

    name: str
    data: Any
    id: str = ""


@contextlib.contextmanager
def listening(api: Api, path: str, **headers: str) -> Iterator[Iterator[Event]]:
    """The events of a stream; it is left when the block ends."""
    with api.client(**headers) as http, http.stream("GET", path) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and fields:
            yield Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
            fields = {}
