"""The scope table and its spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_steering.errors import RecipeError
from persona_steering.interventions import END, Scope

P = 10  # tokens of the prompt


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("response", range(9, 30)),
        ("response[0:1]", [9]),
        ("response[2:5]", [11, 12, 13]),
        ("response[4:]", range(13, 30)),
        ("prompt", range(10)),
        ("all", range(30)),
        ("tokens[3:7]", [3, 4, 5, 6]),
        ("tokens[8:12]", [8, 9, 10, 11]),
        ("tokens", range(30)),
        ("tokens[:2]", [0, 1]),
        ("thinking", range(9, 30)),  # within these, what the marks enclose
    ],
)
def test_a_scope_holds_these_positions(text: str, positions: list[int]) -> None:
    start, stop = Scope.parse(text).interval(P)
    assert [i for i in range(-5, 30) if start <= i < stop] == list(positions)


def test_an_open_scope_has_no_end() -> None:
    assert Scope("response").interval(P)[1] == Scope("all").interval(P)[1] == END


@given(st.sampled_from(["response", "tokens"]), st.integers(0, 10**6), st.none() | st.integers(1, 10**6))
def test_the_spelling_of_a_scope_reads_back(kind: str, start: int, length: int | None) -> None:
    scope = Scope(kind, start, None if length is None else start + length)  # type: ignore[arg-type]
    assert Scope.parse(str(scope)) == scope


@pytest.mark.parametrize("kind", ["response", "prompt", "all", "tokens", "thinking"])
def test_the_plain_kinds_read_back(kind: str) -> None:
    assert str(Scope.parse(f" {kind} ")) == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a scope"),
        ("answer", "unknown scope"),
        ("response[", "not a scope"),
        ("response[a:b]", "not a scope"),
        ("response[-1:2]", "not a scope"),
        ("response[3]", "not a scope"),
        ("response[3:3]", "empty"),
        ("response[5:2]", "empty"),
        ("response[0:0]", "empty"),
        ("tokens[99999999999999999999:]", "beyond"),
        ("tokens[0:99999999999999999999]", "beyond"),
        ("prompt[0:3]", "takes no window"),
        ("all[1:]", "takes no window"),
        ("thinking[0:1]", "takes no window"),
    ],
)
def test_a_scope_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        Scope.parse(text)
    assert caught.value.hint
