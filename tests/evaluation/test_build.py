"""Vectors from judged answers: pairing, the published filter, and the published arithmetic as the oracle."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.backends.tiny import tiny_backend
from tests.oracle import published

from persona_steering.backends.base import conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError, QualityError, UsageError
from persona_steering.evaluation import build
from persona_steering.evaluation.answers_file import AnswerRow
from persona_steering.evaluation.build import POOLINGS, Pair, build_vectors, filter_pairs, pair_rows


def row(side: str, question: int = 0, instruction: int = 0, **more: object) -> AnswerRow:
    fields = {"answer": "Yes.", "trait": 90.0 if side == "pos" else 5.0, "coherence": 80.0} | more
    place = f"evil_{question}_{side}_{instruction}"
    return AnswerRow(f"Question {question}?", "prompt", question_id=place, **fields)  # type: ignore[arg-type]


# Pairing


def test_rows_are_paired_by_question_instruction_and_repetition_whatever_their_order() -> None:
    places = [(q, k, n) for q in range(3) for k in range(2) for n in range(2)]
    pos = [row("pos", q, k, answer=f"pos {q}{k}{n}") for q, k, n in places]
    neg = [row("neg", q, k, answer=f"neg {q}{k}{n}") for q, k, n in places]
    shuffled = sorted(neg, key=lambda one: (random.Random(one.question_id).random(), one.answer))
    pairs, unpaired = pair_rows(pos, shuffled)
    assert unpaired == 0
    assert [pair.negative.answer[4:] for pair in pairs] == [pair.positive.answer[4:] for pair in pairs]


def test_rows_without_a_partner_are_counted() -> None:
    pairs, unpaired = pair_rows([row("pos", 0), row("pos", 1), row("pos", 1)], [row("neg", 1), row("neg", 2)])
    assert [pair.positive.question for pair in pairs] == ["Question 1?"] and unpaired == 3


def test_ids_without_a_side_are_paired_as_they_are() -> None:
    plain = dataclasses.replace(row("pos"), question_id="evil_0")
    assert len(pair_rows([plain], [plain])[0]) == 1


def test_files_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UsageError, match="no row of one file belongs"):
        pair_rows([row("pos", 0)], [row("neg", 1)])
    other = dataclasses.replace(row("neg", 0), question="Another?", line=7)
    with pytest.raises(UsageError, match="line 7 of neg share the question id 'evil_0_pos_0'"):
        pair_rows([row("pos", 0)], [other])


# The filter

SCORES = st.one_of(st.none(), st.sampled_from([0.0, 49.9, 50.0, 50.1, 100.0]), st.floats(0, 100))


@given(st.lists(st.tuples(SCORES, SCORES, SCORES, SCORES), min_size=1, max_size=12), st.sampled_from([0, 30, 50, 70]))
def test_the_pairs_kept_are_the_published_ones(scores: list[tuple[float | None, ...]], threshold: float) -> None:
    pairs = [
        Pair(row("pos", i, trait=a, coherence=b), row("neg", i, trait=c, coherence=d))
        for i, (a, b, c, d) in enumerate(scores)
    ]

    def cells(one: AnswerRow) -> dict[str, str]:
        return {"evil": "" if one.trait is None else str(one.trait), "coherence": str(one.coherence or "")} | (
            {"coherence": "0.0"} if one.coherence == 0 else {}
        )

    expected = [p for p in pairs if published.passes(cells(p.positive), cells(p.negative), "evil", threshold)]
    try:
        found = list(filter_pairs(pairs, "evil", threshold=threshold).kept)
    except QualityError:
        found = []
    assert found == expected


def test_what_was_dropped_is_counted_by_condition() -> None:
    pairs = [
        Pair(row("pos"), row("neg")),
        Pair(row("pos", trait=10.0, coherence=10.0), row("neg")),
        Pair(row("pos"), row("neg", trait=50.0)),
        Pair(row("pos"), row("neg", coherence=None)),
        Pair(row("pos", answer=""), row("neg")),
    ]
    found = filter_pairs(pairs, "evil")
    assert (len(found.kept), found.dropped) == (1, 4)
    assert found.failed == {
        "evil below 50 in pos": 1,
        "evil at or above 50 in neg": 1,
        "coherence below 50 in pos": 1,
        "no score in neg": 1,
        "empty answer": 1,
    }


@pytest.mark.parametrize(
    ("changes", "said", "advice"),
    [
        ({"trait": 10.0}, "2 have evil below 50 in pos", "change --threshold"),
        ({"coherence": 1.0}, "2 have coherence below 50 in pos", "whole sentences"),
        ({"trait": None}, "2 have no score in pos", "judges what has no score"),
        ({"answer": ""}, "2 have empty answer", "says nothing"),
    ],
)
def test_when_nothing_is_left_it_says_why_and_what_to_change(
    changes: dict[str, object], said: str, advice: str
) -> None:
    pairs = [Pair(row("pos", i, **changes), row("neg", i)) for i in range(2)]
    with pytest.raises(QualityError, match="none of 2 pairs") as caught:
        filter_pairs(pairs, "evil")
    assert said in caught.value.message and advice in caught.value.hint


# The arithmetic

WORDS = ["the", "sea", "is", "far", "and", "cold", "tonight", "but", "we", "sail", "on"]


def answered(backend: TransformersBackend, count: int) -> list[Pair]:
    """Pairs with prompts as the template writes them, some of them shared."""
    rng = random.Random(3)
    pairs = []
    for i in range(count):
        rows = []
        for side, system in (("pos", "Be bad."), ("neg", "Be good.")):
            prompt = backend.render(conversation(f"Question {i // 2}?", system))
            answer = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
            rows.append(dataclasses.replace(row(side, i // 2), prompt=prompt, answer=answer))
        pairs.append(Pair(*rows))
    return pairs


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_batched_vectors_are_the_published_ones_in_every_row(
    family: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = tiny_backend(family, tmp_path_factory.mktemp("models"))
    monkeypatch.setattr(build, "CHUNK", 3)
    agree(backend, answered(backend, 8))


@pytest.mark.embedded
def test_a_real_models_vectors_are_the_published_ones(embedded_backend: TransformersBackend) -> None:
    agree(embedded_backend, answered(embedded_backend, 3))


def agree(backend: TransformersBackend, pairs: list[Pair]) -> None:
    model, tokenizer = backend.loaded.model, backend.loaded.encoder.tokenizer
    sides = [
        [published.token_means(model, tokenizer, one.prompt, one.answer) for one in side]
        for side in ([pair.positive for pair in pairs], [pair.negative for pair in pairs])
    ]
    built = build_vectors(backend, pairs)
    for pooling in POOLINGS:
        expected = published.vector(*sides, pooling).numpy()
        ours = built.published(pooling)
        assert ours.shape == expected.shape and ours.dtype == np.float32
        # relative to the length of the row, but where two almost equal means cancel, to a part of their own length
        means = np.mean([means[pooling].norm(dim=1).numpy() for means in sides[0]], 0)
        error = np.linalg.norm(ours - expected, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), 0.01 * means)
        assert error.max() < 1e-4, (pooling, error)


def test_a_token_that_would_span_the_border_stays_on_its_side(embedded_backend: TransformersBackend) -> None:
    """Where tokenising together and apart differ: here, before an answer that begins with two line breaks."""
    tokenizer = embedded_backend.loaded.encoder.tokenizer
    prompt = embedded_backend.render(conversation("Is it far?"))
    together = tokenizer(prompt + "\n\nYes.", add_special_tokens=False)["input_ids"]
    alone = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert together[: len(alone)] != alone  # the published code takes its first answer token from the second place
    pair = Pair(
        dataclasses.replace(row("pos"), prompt=prompt, answer="\n\nYes."),
        dataclasses.replace(row("neg"), prompt=prompt, answer="No."),
    )
    built = build_vectors(embedded_backend, [pair])
    # one prompt on both sides: whatever is answered, its own means cannot differ
    assert np.abs(built.published("prompt_avg")).max() < 1e-3
    assert np.abs(built.published("prompt_last")).max() < 1e-3


def test_a_pair_that_exceeds_the_context_is_left_out_and_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    backend = tiny_backend("llama", tmp_path_factory.mktemp("models"))
    pairs = answered(backend, 3)
    long = Pair(dataclasses.replace(pairs[0].positive, answer="x" * 400), pairs[0].negative)
    built = build_vectors(backend, [*pairs, long])
    assert built.left_out == 1
    assert np.allclose(
        built.published("response_avg"), build_vectors(backend, pairs).published("response_avg"), atol=1e-5
    )
    with pytest.raises(QualityError, match="no pair of answers can be captured"):
        build_vectors(backend, [long])


def test_building_can_be_stopped(tmp_path_factory: pytest.TempPathFactory) -> None:
    backend = tiny_backend("llama", tmp_path_factory.mktemp("models"))
    with pytest.raises(CancelledError):
        build_vectors(backend, answered(backend, 1), cancelled=lambda: True)


def test_the_reference_norms_are_those_of_the_negative_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    backend = tiny_backend("llama", tmp_path_factory.mktemp("models"))
    pair = answered(backend, 1)[0]
    text = pair.negative.prompt + pair.negative.answer
    ids = backend.loaded.encoder.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        states = backend.loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
    count = len(backend.loaded.encoder.encode_response(pair.negative.answer))
    expected = [float(states[layer + 1][0, -count:].norm(dim=-1).mean()) for layer in range(3)]
    assert build_vectors(backend, [pair]).norms[:3] == pytest.approx(expected, rel=1e-4)
