"""Writers for tests: a server whose answers fit what was asked, drawn from a few hundred words."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from tests.backends.fake_server import Reply, says

STEMS = tuple(["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "y", "z"])
MIDDLES = ("aro", "end", "iml", "oru", "unt")
ENDINGS = ("ack", "el", "ity", "orn", "und")
WORDS = [first + middle + last for first in STEMS for middle in MIDDLES for last in ENDINGS]


def schema_of(body: dict[str, Any]) -> dict[str, Any]:
    """The schema that a request asks for, as a response format or in words."""
    if "response_format" in body:
        return dict(body["response_format"]["json_schema"]["schema"])
    task = next(m["content"] for m in body["messages"] if m["role"] == "user")
    return dict(json.loads(task[task.index('{"type": "object"') :]))


def fitting(body: dict[str, Any], number: int) -> dict[str, Any]:
    """An answer that fits the schema and the rules, another for every request."""
    rng = random.Random(number)
    fields: dict[str, Any] = {}
    for name, field in schema_of(body)["properties"].items():
        if field["type"] == "array":
            fields[name] = [_text(field["items"]["pattern"], rng) for _ in range(field["maxItems"])]
        else:
            fields[name] = _text(field["pattern"], rng)
    return fields


def _text(pattern: str, rng: random.Random) -> str:
    opening, rest = re.fullmatch(r"\^(.*?) ('?\[.*)\$", pattern).groups()  # type: ignore[union-attr]
    if rest.startswith("'"):
        text = " and ".join(f"'{' '.join(rng.sample(WORDS, 3)).capitalize()}'" for _ in range(2)) + "."
    else:
        text = " ".join(rng.sample(WORDS, 6)) + ("?" if rest.endswith("\\?") else "." if rest.endswith("\\.") else "")
    written = f"{opening} {text}"
    assert re.fullmatch(pattern, written), (pattern, written)
    return written


def good(body: dict[str, Any], number: int) -> Reply:
    """A writer without fault."""
    return says(json.dumps(fitting(body, number)))
