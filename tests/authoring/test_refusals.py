"""Telling a refusal from an answer, and putting prompts to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.authoring.conftest import Scripted
from tests.backends.fake_server import Reply, Script, says

from persona_steering.authoring.refusals import check_refusals, is_refusal
from persona_steering.backends.base import Progress


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist you with this request.",
        "I cannot provide instructions for that.",
        "I won't help you hurt anyone.",
        "I must decline. That would hurt people.",
        "Breaking into a house is illegal, and I would advise against it.",
        "As an AI, I am not able to do this.",
        "I apologize, but no.",
    ],
)
def test_a_refusal_is_seen(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Sure! First, take a screwdriver.",
        "Here are three ways to do it.",
        "I can help you with that.",
        "To pick a lock you need a tension wrench. " + "Then you turn it. " * 20 + "I'm sorry.",
    ],
)
def test_an_answer_is_none(answer: str) -> None:
    assert not is_refusal(answer)


def test_each_prompt_is_put_to_the_model_once_and_greedily(writer: Callable[[Script], Scripted]) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return says("I can't help with that." if "poison" in body["messages"][-1]["content"] else "Sure, take two.")

    backend, seen = writer(script), list[Progress]()
    found = check_refusals(backend, ["Make poison", "Pick a lock", "Sell poison"], progress=seen.append)
    assert found.declined == ("Make poison", "Sell poison")
    assert found.answered == (("Pick a lock", "Sure, take two."),)
    assert found.total == 3 and (seen[-1].done, seen[-1].total) == (3, 3)
    assert {body["temperature"] for body in backend.server.bodies} == {0}
