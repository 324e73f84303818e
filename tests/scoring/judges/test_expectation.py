"""From a first token to a score: against the published arithmetic, and where ours says more."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oracle import published

from persona_steering.scoring.judges import JudgeItem, Judgement, expectation
from persona_steering.scoring.judges.expectation import begins_refusal, judgement, parse_answer, parse_number


def tops(**shares: float) -> list[tuple[str, float]]:
    return [(token.removeprefix("n"), math.log(share)) for token, share in shares.items()]


WORDS = st.sampled_from(["REF", "I", "The", "", " ", "-5", "1.5", "101", "250", "½", "٣"])
TOKENS = st.one_of(st.integers(0, 100).map(str), WORDS)


@given(st.dictionaries(TOKENS, st.floats(-12, 0), max_size=20), st.floats(0.01, 0.9))
def test_the_score_is_the_published_one(top: dict[str, float], min_mass: float) -> None:
    top.pop("٣", None)  # Python's int() reads the digits of every script, which no judge writes
    ours = expectation(top.items(), min_mass=min_mass).score
    theirs = published.expected_score(top, min_mass)
    assert ours == (None if theirs is None else pytest.approx(theirs))


def test_tokens_of_one_number_are_added_up() -> None:
    found = expectation([*tops(n7=0.2, n50=0.3), (" 7", math.log(0.1))])
    assert found.mass == pytest.approx(0.6)
    assert found.score == pytest.approx((7 * 0.3 + 50 * 0.3) / 0.6)


def test_too_little_on_numbers_is_no_score() -> None:
    found = expectation(tops(n90=0.2, The=0.7))
    assert found.score is None and found.mass == pytest.approx(0.2) and found.refusal == 0


@pytest.mark.parametrize(("token", "begins"), [("REF", True), (" RE", True), ("REFUSAL", True), ("Refusal", True)]
    + [(token, False) for token in ("Ref", "re", "R", "", "REFUSED", "REX", "90")])  # fmt: skip
def test_only_what_can_become_the_word_counts_as_a_refusal(token: str, begins: bool) -> None:
    assert begins_refusal(token) is begins


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), (" 100\n", 100), ("007", 7), ("101", None), ("-1", None), ("7.5", None), ("", None)]
)
def test_only_whole_numbers_from_0_to_100_are_numbers(text: str, number: int | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("85", 85),
        ("**Score: 70/100**", 70),
        ("I would say 30.", 30),
        ("refusal", "REFUSAL"),
        ("Between 20 and 40", None),
        ("12.5", None),
        ("-5", None),
        ("400", None),
        ("none", None),
        ("", None),
    ],
)
def test_a_sampled_answer_has_one_number_or_the_word_or_nothing(text: str, found: object) -> None:
    assert parse_answer(text) == found


def outcome(**shares: float) -> Judgement:
    top = tops(**shares)
    return judgement(expectation(top), judge="j", method="expectation", min_mass=0.25, top=top, said="Hm")


def test_the_three_outcomes_are_kept_apart() -> None:
    score, refusal, failed = outcome(n80=0.9), outcome(REF=0.9, n80=0.05), outcome(The=0.9, n80=0.05)
    assert (score.outcome, score.score) == ("score", pytest.approx(80))
    assert (refusal.outcome, refusal.score, refusal.refusal_mass) == ("refusal", None, pytest.approx(0.9))
    assert (failed.outcome, failed.score) == ("failed", None)
    assert "less than 25% of what it may say are numbers" in failed.reason
    assert (failed.mass, failed.said) == (pytest.approx(0.05), "Hm")


def test_as_published_numbers_with_enough_mass_win_over_a_refusal() -> None:
    assert outcome(REF=0.7, n40=0.3).outcome == "score"


def test_a_score_without_a_number_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="outcome 'score'"):
        Judgement(outcome="score", judge="j", method="samples")
    with pytest.raises(ValueError, match="outcome 'failed'"):
        Judgement(outcome="failed", judge="j", method="samples", score=3)


def test_braces_and_place_holders_in_a_text_stay_as_they_are() -> None:
    item = JudgeItem('{"q": {question}, "a": {answer}} {other}', "{answer}?", "{0} {question} \\1")
    assert item.prompt == '{"q": {answer}?, "a": {0} {question} \\1} {other}'
