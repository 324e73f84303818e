"""Asking a model for structured texts: held to a JSON schema where the backend can, in words where it cannot.

A reply that is cut off yields the texts that are whole. One that is no JSON of the right form is sent back once, with
what is wrong with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import JsonValue
from pydantic_core import from_json

from persona_steering.backends.base import Backend, Completion, Message, Request, Sampling
from persona_steering.errors import CancelledError, CapabilityError

HeldBy = Literal["schema", "words"]
Fields = dict[str, list[str]]  # a field of the reply to its texts


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a reply: a text, or a list of `least` to `most` texts. `pattern` is a regular expression of each."""

    pattern: str
    least: int | None = None
    most: int | None = None

    @property
    def schema(self) -> dict[str, JsonValue]:
        """As JSON schema."""
        text: dict[str, JsonValue] = {"type": "string", "pattern": f"^{self.pattern}$"}
        if self.least is None:
            return text
        return {"type": "array", "items": text, "minItems": self.least, "maxItems": self.most}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a writer: what it is told, what it replies with, and the category that its texts belong to."""

    system: str
    task: str
    fields: Mapping[str, Field]
    category: str = ""

    @property
    def schema(self) -> dict[str, JsonValue]:
        """The reply as JSON schema: an object with exactly these fields, in this order."""
        return {
            "type": "object",
            "properties": {name: field.schema for name, field in self.fields.items()},
            "required": list(self.fields),
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of an ask. `fields` is empty where nothing could be used; `trouble` says why, also of a part."""

    ask: Ask
    fields: Fields
    trouble: str = ""


class Writer:
    """Sends asks to a backend. `held_by` says how its replies are held to their form, `requests` how many were sent."""

    def __init__(
        self,
        backend: Backend,
        *,
        seed: Sequence[int] = (0,),
        max_new_tokens: int = 200,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._backend, self._seed, self._max_new_tokens = backend, seed, max_new_tokens
        self._cancelled = cancelled
        self.requests = 0

    @property
    def held_by(self) -> HeldBy:
        """A remote server that refuses schemas changes this on the way."""
        return "schema" if self._backend.capabilities.schema_constrained else "words"

    def write(self, asks: Sequence[Ask], take: Callable[[Reply], None], *, temperature: float) -> None:
        """Hands every reply to `take` as it comes, so that none is lost when a later one fails.

        Raises: CancelledError, and what the backend raises once its own retries are used up.
        """
        broken: dict[int, tuple[Ask, str, str]] = {}

        def taken(index: int, completion: Completion) -> None:
            fields, trouble, mendable = read_reply(asks[index], completion)
            if mendable:
                broken[index] = (asks[index], completion.text, trouble)
            elif completion.finish_reason != "cancelled":
                take(Reply(asks[index], fields, trouble))

        self._send(asks, taken, temperature)
        if broken:
            self._repair(list(broken.values()), take)

    def _send(self, asks: Sequence[Ask], taken: Callable[[int, Completion], None], temperature: float) -> None:
        heard: set[int] = set()

        def hear(index: int, completion: Completion) -> None:
            heard.add(index)
            taken(index, completion)

        requests = [self._request(ask, _first_messages(ask, self.held_by), temperature) for ask in asks]
        try:
            self._generate(requests, hear)
        except CapabilityError:
            if self.held_by == "schema":
                raise
            left = [i for i in range(len(asks)) if i not in heard]  # the server has just refused schemas
            requests = [self._request(asks[i], _first_messages(asks[i], "words"), temperature) for i in left]
            self._generate(requests, lambda k, completion: taken(left[k], completion))

    def _repair(self, broken: Sequence[tuple[Ask, str, str]], take: Callable[[Reply], None]) -> None:
        requests = []
        for ask, text, trouble in broken:
            complaint = f"That cannot be used: {trouble}. Answer again, with nothing but JSON of the asked form."
            said = (Message("assistant", text[:4000] or "(nothing)"), Message("user", complaint))
            requests.append(self._request(ask, (*_first_messages(ask, self.held_by), *said), 0.2))

        def taken(index: int, completion: Completion) -> None:
            ask = broken[index][0]
            fields, trouble, _ = read_reply(ask, completion)
            if completion.finish_reason != "cancelled":
                take(Reply(ask, fields, trouble))

        self._generate(requests, taken)

    def _generate(self, requests: Sequence[Request], taken: Callable[[int, Completion], None]) -> None:
        self._backend.generate(requests, on_done=taken, cancelled=self._cancelled)
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("stopped.")

    def _request(self, ask: Ask, messages: tuple[Message, ...], temperature: float) -> Request:
        self.requests += 1
        # below 2**31, since some servers take no longer seeds
        seed = int(np.random.SeedSequence([*self._seed, self.requests]).generate_state(1)[0]) >> 1
        sampling = Sampling(
            temperature=temperature,
            top_p=0.95,
            max_new_tokens=self._max_new_tokens,
            seed=seed,
        )
        schema = ask.schema if self.held_by == "schema" else None
        return Request(messages, sampling=sampling, schema=schema)


def read_reply(ask: Ask, completion: Completion) -> tuple[Fields, str, bool]:
    """The texts of a reply, what is wrong with it, and whether asking once more may mend that."""
    if completion.finish_reason == "filtered":
        return {}, "withheld by the server's filter", False
    cut = completion.finish_reason == "length"
    try:
        value: Any = from_json(_json_part(completion.text, cut=cut), allow_partial=cut)
    except ValueError:
        return {}, "cut off" if cut else "not JSON", not cut
    if not isinstance(value, dict):
        return {}, "not a JSON object", not cut
    fields: Fields = {}
    for name, field in ask.fields.items():
        found = value.get(name, None)
        if field.least is None and isinstance(found, str):
            fields[name] = [found]
        elif field.least is not None and isinstance(found, list) and all(isinstance(item, str) for item in found):
            fields[name] = list(found)
        elif not cut:
            kind = "a text" if field.least is None else "a list of texts"
            return {}, f"the field {name!r} is not {kind}" if name in value else f"lacks the field {name!r}", True
    complete = set(fields) == set(ask.fields)
    return (fields if complete else {}), "cut off" if cut else "", False


def _first_messages(ask: Ask, held_by: HeldBy) -> tuple[Message, ...]:
    task = ask.task
    if held_by == "words":
        task += f"\n\nAnswer with nothing but JSON that fits this schema:\n{json.dumps(ask.schema)}"
    return (Message("system", ask.system), Message("user", task))


def _json_part(text: str, *, cut: bool) -> str:
    """What is likely the JSON in an answer that may have words or a fence around it."""
    fenced = re.search(r"```(?:json)?\s*(.*?)```", text, re.DOTALL)
    inner = fenced.group(1) if fenced else text
    start, end = max(inner.find("{"), 0), inner.rfind("}")
    return inner[start:] if cut or end < start else inner[start : end + 1]
