"""Replies of an OpenAI-compatible server that answers with the log-probabilities of a real model."""

from __future__ import annotations

import json
import math
from typing import Any

from tests.backends.fake_server import Reply, Script

from persona_steering.backends.base import Message, Text
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.scoring.judges.local import CONTINUED, TOP, number_masses
from persona_steering.scoring.judges.remote import PROBE

Tops = list[tuple[str, float]]


def tells(tops: Tops, **more: Any) -> Reply:
    """A well-formed answer of one token, with what else it could have been."""
    listed = [{"token": token, "logprob": logprob} for token, logprob in tops]
    content = [{**listed[0], "top_logprobs": listed}]
    choice = {"message": {"content": tops[0][0]}, "finish_reason": "length", "logprobs": {"content": content}}
    return Reply(json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}} | more))


def shares(**given: float) -> Tops:
    """Tokens and their probabilities; "n85" is the token 85."""
    return [(token.removeprefix("n"), math.log(share)) for token, share in given.items()]


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


WHOLE = tells(shares(n85=0.9, n8=0.05))  # to the question that finds out whether a number is one token
DIGITS = tells(shares(n8=0.9, n9=0.05))


def of_model(backend: TransformersBackend) -> Script:
    """What the model would answer if every number were one token of its vocabulary."""

    def script(body: dict[str, Any], number: int) -> Reply:
        if prompt_of(body) == PROBE:
            return WHOLE
        begun = ("", *map(str, CONTINUED))
        texts = [Text((Message("user", prompt_of(body)),), text) for text in begun]
        first, *after = backend.next_tokens(texts, top=TOP)
        masses = number_masses(first, dict(zip(CONTINUED, after, strict=True)))
        numbers = [(str(n), math.log(mass)) for n, mass in masses.items() if mass > 0]
        words = [(choice.text, choice.logprob) for choice in first if not choice.text.strip().isdigit()]
        return tells(sorted([*numbers, *words], key=lambda pair: -pair[1])[: body["top_logprobs"]])

    return script
