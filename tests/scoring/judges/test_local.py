"""The judge without a server, against a brute-force walk over everything it might say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.backends.tiny import make_tokenizer, open_tiny, save_tiny

from persona_steering.backends.base import Message, Text
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError
from persona_steering.scoring.judges import JudgeItem, Judgement, LocalJudge

ITEMS = [JudgeItem("{question} {answer} 0 to 100?", "Is it far?", answer) for answer in ("Very.", "", "A {b} c.")]


@pytest.fixture(scope="module", params=["digits", "numbers"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    """A vocabulary of single digits, and one in which some longer numbers are tokens too."""
    tokenizer = make_tokenizer()
    if request.param == "numbers":
        tokenizer.add_tokens([str(number) for number in range(10, 101, 3)])
    folder = save_tiny("llama", tmp_path_factory.mktemp("judge") / request.param, tokenizer=tokenizer)
    return open_tiny(folder)


def brute_force(backend: TransformersBackend, prompt: str) -> tuple[dict[int, float], float]:
    """P(n is said), by one plain forward for every beginning of a number; and P(REFUSAL)."""
    encoder: Any = backend.loaded.encoder
    head = encoder.encode((Message("user", prompt),))

    def after(said: str) -> dict[str, float]:
        ids = head + (encoder.encode_response(said) if said else [])
        with torch.no_grad():
            logits = backend.loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        chances = torch.softmax(logits.double(), -1).tolist()
        texts = [encoder.decode([i]) for i in range(len(chances))]
        return {text: p for text, p in zip(texts, chances, strict=True) if text.isdigit() or text in "REFUSAL"}

    said = {int(text): p for text, p in after("").items() if text.isdigit() and int(text) <= 100}
    for number in range(1, 11):
        reached = said[number]
        for digits, p in after(str(number)).items():
            if digits.isdigit():
                said[number] -= reached * p
                longer = int(f"{number}{digits}")
                if longer <= 100:
                    said[longer] = said.get(longer, 0.0) + reached * p
    refusal = math.prod(after("REFUSAL"[:i])[letter] for i, letter in enumerate("REFUSAL"))
    return said, refusal


def test_every_number_has_the_probability_of_being_said_and_not_continued(backend: TransformersBackend) -> None:
    judge = LocalJudge(backend, min_mass=1e-9)
    for item, found in zip(ITEMS, judge.judge(ITEMS), strict=True):
        said, refusal = brute_force(backend, item.prompt)
        total = sum(said.values())
        assert found.outcome == "score"
        assert found.mass == pytest.approx(total, rel=1e-4)
        assert found.score == pytest.approx(sum(n * p for n, p in said.items()) / total, rel=1e-4)
        assert found.refusal_mass == pytest.approx(refusal, rel=1e-3)
        number, logprob = found.top[0]
        assert math.exp(logprob) == pytest.approx(said[int(number)], rel=1e-4) == max(said.values())


def test_a_judgement_does_not_depend_on_its_neighbours(backend: TransformersBackend) -> None:
    judge = LocalJudge(backend, min_mass=1e-9)
    alone = [judge.judge([item])[0].score for item in ITEMS]
    assert [found.score for found in judge.judge(ITEMS)] == pytest.approx(alone, rel=1e-4)


def test_a_model_that_says_no_number_fails_with_what_it_says(backend: TransformersBackend) -> None:
    (found,) = LocalJudge(backend, min_mass=0.9).judge(ITEMS[:1])
    assert found.outcome == "failed" and "less than 90%" in found.reason and found.said and found.top


def test_an_answer_too_long_for_the_judge_fails_alone(backend: TransformersBackend) -> None:
    items = [ITEMS[0], JudgeItem("{question}{answer}", "q", "x" * 500), ITEMS[1]]
    found = LocalJudge(backend, min_mass=1e-9).judge(items)
    assert [one.outcome for one in found] == ["score", "failed", "score"]
    assert "do not fit into the judge's context" in found[1].reason


def test_a_stopped_judge_has_told_what_was_done(backend: TransformersBackend) -> None:
    told: list[Judgement] = []
    with pytest.raises(CancelledError):
        LocalJudge(backend).judge(
            ITEMS * 5, on_done=lambda i, found: told.append(found), cancelled=lambda: len(told) > 0
        )
    assert 0 < len(told) < 15


def test_a_number_of_a_real_model_is_as_likely_as_its_forced_digits(embedded_backend: TransformersBackend) -> None:
    item = JudgeItem("{question} {answer} Rate it from 0 to 100.", "Why is the sky blue?", "It scatters light.")
    judge = LocalJudge(embedded_backend, min_mass=1e-6)
    (found,) = judge.judge([item])
    assert judge.id == "local:embedded" and found.outcome == "score"
    said = [(number, logprob) for number, logprob in found.top if len(number) == 2 and number != "10"]
    assert len(said) >= 3
    forced = embedded_backend.score([Text((Message("user", item.prompt),), number) for number, _ in said])
    assert [logprob for _, logprob in said] == pytest.approx([one.logprobs.sum() for one in forced], abs=1e-3)
