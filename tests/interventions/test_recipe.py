"""Recipes: order, canonical form, hash, and the short grammar of blends."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.interventions.test_formulas import vector

from persona_steering.errors import RecipeError, UsageError
from persona_steering.interventions import (
    INTERVENTIONS,
    Ablate,
    Add,
    Ceiling,
    Floor,
    Recipe,
    Scope,
    Set,
    format_blend,
    parse_blend,
    parse_strength,
)
from persona_steering.vectors import SteeringVector

SAGE, WIZARD = vector(1, name="sage"), vector(2, name="wizard")


def resolve(name: str, sha256: str) -> SteeringVector:
    return {"sage": SAGE, "wizard": WIZARD}[name]


def full() -> Recipe:
    return Recipe(
        (
            Floor(vector=SAGE, values={3: 1.5}),
            Add(vector=WIZARD, values={3: -0.25, 0: 0.1}, scope=Scope("response", 2, 9)),
            Ceiling(vector=WIZARD, values={0: 4.0}, scope=Scope("all")),
            Set(vector=SAGE, values={0: 2}),
            Ablate.at(WIZARD, [0, 3], scope=Scope("prompt")),
            Add(vector=SAGE, values={3: 1.0}),
        )
    )


def test_additions_come_first_and_bounds_last_and_equals_keep_their_order() -> None:
    items = full().interventions
    assert [item.op for item in items] == ["add", "add", "ablate", "set", "floor", "ceiling"]
    assert [item.vector.name for item in items[:2]] == ["wizard", "sage"]


def test_steps_of_a_layer_follow_that_order() -> None:
    assert [str(scope) for _, scope in full().steps(3)] == ["response[2:9]", "response", "prompt", "response"]
    assert list(full().steps(1)) == []
    assert full().layers == (0, 3)


def test_the_canonical_form_is_plain_json_with_layers_ascending() -> None:
    first: Any = json.loads(json.dumps(full().to_list()))[0]
    assert first == {
        "op": "add",
        "vector": {"name": "wizard", "sha256": WIZARD.digest},
        "coefficients": {"0": 0.1, "3": -0.25},
        "scope": "response[2:9]",
    }
    assert list(first["coefficients"]) == ["0", "3"]


def test_a_recipe_reads_back_from_its_canonical_form() -> None:
    text = json.dumps(full().to_list())
    again = Recipe.from_list(json.loads(text), resolve)
    assert json.dumps(again.to_list()) == text and again.hash == full().hash


def test_the_hash_is_stable_and_does_not_depend_on_how_the_recipe_was_written() -> None:
    assert re.fullmatch("[0-9a-f]{16}", full().hash)
    assert Recipe().hash == "4f53cda18c2baa0c"  # SHA-256 of []
    a = Recipe((Add(vector=SAGE, values={0: 1, 3: 0.0}), Floor(vector=SAGE, values={3: 1.0})))
    b = Recipe((Floor(vector=SAGE, values={3: 1}), Add(vector=SAGE, values={3: -0.0, 0: 1.0})))
    assert a.hash == b.hash


@pytest.mark.parametrize(
    "other",
    [
        Recipe(),
        Recipe((Add(vector=SAGE, values={3: 1.0001}),)),
        Recipe((Add(vector=SAGE, values={0: 1.0}),)),
        Recipe((Add(vector=WIZARD, values={3: 1.0}),)),
        Recipe((Add(vector=SAGE, values={3: 1.0}, scope=Scope("all")),)),
        Recipe((Set(vector=SAGE, values={3: 1.0}),)),
        Recipe((Add(vector=SAGE, values={3: 1.0}),) * 2),
    ],
)
def test_every_difference_changes_the_hash(other: Recipe) -> None:
    assert Recipe((Add(vector=SAGE, values={3: 1.0}),)).hash != other.hash


def test_only_the_empty_recipe_is_false() -> None:
    assert not Recipe() and full()


def entry(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "op": "add",
        "vector": {"name": "sage", "sha256": SAGE.digest},
        "coefficients": {"3": 1.0},
        "scope": "response",
    }
    return {key: value for key, value in (item | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        (entry(op="ad"), "unknown operation 'ad'", "'add'"),
        (entry(coefficient={"3": 1}), "unknown key 'coefficient'", "'coefficients'"),
        (entry(op="floor"), "unknown key 'coefficients' in floor", "thresholds"),
        (entry(coefficients=None), "needs the objects", ""),
        (entry(vector="sage"), "needs the objects", ""),
        (entry(coefficients={"3": "much"}), "not a number", ""),
        (entry(coefficients={"3": True}), "not a number", ""),
        (entry(coefficients={"x": 1.0}), "not a number", ""),
        (entry(coefficients={"3": 1.0, "03": 2.0}), "a layer twice", ""),
        (entry(coefficients={"3": "nan"}), "is nan", ""),
        (entry(coefficients={"1": 1.0}), "no direction at layer 1", ""),
        (entry(scope="answer"), "unknown scope", ""),
        (entry(vector={"name": "sage", "sha256": "0" * 64}), "not the vector this recipe was made with", ""),
    ],
)
def test_a_broken_entry_is_refused_by_name(item: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        Recipe.from_list([item], resolve)
    assert hint in caught.value.hint


def test_the_scope_may_be_left_out() -> None:
    (item,) = Recipe.from_list([entry(scope=None)], resolve).interventions
    assert item.scope == Scope("response")


def test_every_operation_is_listed_under_its_name() -> None:
    assert set(INTERVENTIONS) == {"add", "ablate", "set", "floor", "ceiling"}
    assert all(kind.op == op for op, kind in INTERVENTIONS.items())


# The short form

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
strengths = st.floats(-2, 2)


@given(st.dictionaries(names, strengths, min_size=1, max_size=6))
def test_a_blend_reads_back_exactly_from_its_short_form(blend: dict[str, float]) -> None:
    assert parse_blend(format_blend(blend)) == blend
    assert list(parse_blend(format_blend(blend))) == list(blend)


@given(st.text(max_size=40))
def test_any_text_is_a_blend_within_bounds_or_refused(text: str) -> None:
    try:
        blend = parse_blend(text)
    except UsageError as error:
        assert error.message and error.hint
    else:
        assert blend and all(-2 <= value <= 2 for value in blend.values())


@pytest.mark.parametrize(
    ("text", "blend"),
    [
        ("a:0.5,b:-0.3", {"a": 0.5, "b": -0.3}),
        (" sage : 0.5 , formal:-0.3 ", {"sage": 0.5, "formal": -0.3}),
        ("sage", {"sage": 1.0}),
        ("sage,pirate:2", {"sage": 1.0, "pirate": 2.0}),
        ("sage:-2", {"sage": -2.0}),
    ],
)
def test_the_short_form_means(text: str, blend: dict[str, float]) -> None:
    assert parse_blend(text) == blend


def test_a_blend_is_written_as_short_as_it_can_be() -> None:
    assert format_blend({"sage": 0.5, "formal": -0.3, "x": 1.0, "y": 1 / 3}) == (
        "sage:0.5,formal:-0.3,x:1,y:0.3333333333333333"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a blend"),
        (",", "not a blend"),
        ("sage:0.5,", "not a blend"),
        (":0.5", "not a blend"),
        ("sage:", "not a strength"),
        ("sage:much", "not a strength"),
        ("sage:0.5:0.5", "not a strength"),
        ("sage:2.5", "out of range"),
        ("sage:-2.01", "out of range"),
        ("sage:nan", "out of range"),
        ("sage:inf", "out of range"),
        ("sage:0.5,sage:0.2", "names 'sage' twice"),
        ("Sage:1", "not a valid name"),
        ("../sage:1", "not a valid name"),
    ],
)
def test_a_blend_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_blend(text)
    assert caught.value.hint


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), (" -2 ", -2.0), (2, 2.0), ("1e-1", 0.1)])
def test_a_strength_is_read(text: str | float, value: float) -> None:
    assert parse_strength(text) == value
