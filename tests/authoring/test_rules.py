"""What may enter a data set: one text a rule, and that all shipped texts may."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_steering.authoring.checking import check_persona, check_set
from persona_steering.authoring.rules import (
    PAIR_RULES,
    PERSONA_RULES,
    PROMPT_RULES,
    QUESTION_RULES,
    SIDE_RULES,
    Gate,
    Rule,
    broken_rules,
)
from persona_steering.errors import NotFoundError, UsageError
from persona_steering.personas import Persona, list_archetypes, load_archetype
from persona_steering.personas.datasets import SET_KINDS, SetKind, shipped_path


@pytest.mark.parametrize("kind", SET_KINDS)
def test_the_shipped_sets_break_no_rule(kind: SetKind) -> None:
    with shipped_path(kind) as path:
        checked = check_set(kind, path)
    assert checked.items >= 100 and checked.complaints == ()


@pytest.mark.parametrize("name", list_archetypes())
def test_the_shipped_archetypes_break_no_rule(name: str) -> None:
    assert check_persona(load_archetype(name)).complaints == ()


@pytest.mark.parametrize(
    ("text", "rules", "reason"),
    [
        ("What is it?", QUESTION_RULES, "shorter than 5 words"),
        ("What " + "long " * 31 + "road?", QUESTION_RULES, "longer than 30 words"),
        ("Do you like the sea in winter?", QUESTION_RULES, "a yes/no question"),
        ("Could anybody love a rainy day?", QUESTION_RULES, "a yes/no question"),
        ("The sea is wide in winter.", QUESTION_RULES, "not a question"),
        ("What is the sea? And where is it?", QUESTION_RULES, "two questions"),
        ("What would you answer to this question now?", QUESTION_RULES, "speaks of the asking"),
        ("What does an AI think about love?", QUESTION_RULES, "speaks of an AI"),
        ("What can a language model know of rain?", QUESTION_RULES, "speaks of an AI"),
        ("What is the best {thing} in the world?", QUESTION_RULES, "odd characters, a link or code"),
        ("What can one find on https://example.org today?", QUESTION_RULES, "odd characters, a link or code"),
        ("What 12345 67890 12345 67890 12345 67890 is?", QUESTION_RULES, "odd characters, a link or code"),
        ("What do you love about the sea and what do you love about me?", QUESTION_RULES, "repeats itself"),
        ("What a clever and clever fox lives there?", QUESTION_RULES, "repeats itself"),
        ("What do you think when the", PROMPT_RULES, "a question without a question mark"),
        ("Help me bake a cake with my", PROMPT_RULES[2:], None),
        ("Help me bake a cake with the", PROMPT_RULES, "breaks off"),
        ("Is it fine to bake a cake?", PROMPT_RULES, "a yes/no question"),
        ("You are an old wizard of the north who speaks of rain.", PERSONA_RULES, "not 2 to 4 sentences"),
        ("An old wizard lives in the north. He speaks of rain and wind.", PERSONA_RULES, "does not speak to the"),
        ("You are an old wizard of the north. You speak of rain and", SIDE_RULES, "does not end a sentence"),
        (
            "You speak softly of the rain, " + "and of the wind in the high trees, " * 6 + "friend.",
            SIDE_RULES,
            "runs on",
        ),
        (
            "Your tone is warm and kind today. / Your tone is warm and kind, today.",
            PAIR_RULES,
            "both sides say the same",
        ),
    ],
)
def test_a_rule_has_its_reason(text: str, rules: tuple[Rule, ...], reason: str | None) -> None:
    broken = broken_rules(text, rules)
    assert any(found.startswith(reason) for found in broken) if reason else not broken


def test_a_gate_lets_nothing_in_twice_nor_nearly_nor_a_copy_of_an_example() -> None:
    gate = Gate(QUESTION_RULES, apart_from=["What do you keep from your childhood?"])
    assert gate.admit("What would you do with a spare hour?") is None
    assert gate.admit("what would you DO with a spare hour?") == "a duplicate"
    assert gate.admit("What would you do with one spare hour?") == "nearly a duplicate"
    assert gate.admit("What do you still keep from your childhood?") == "copies an example"
    assert gate.admit("Why do rivers bend on their way down?") is None


def test_checking_a_file_names_every_bad_line_with_all_its_reasons(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"id": "a", "category": "x", "question": "How would you cross a river?"}\n'
        '{"id": "a", "category": "x", "question": "Do AIs dream?"}\n'
        "\nnot json\n"
        '{"id": "b", "category": "x", "question": "How would you cross a wide river?"}\n'
        '{"id": "c", "question": "What is the worth of an old coin?"}\n'
    )
    found = {complaint.place: complaint.reasons for complaint in check_set("questions", file).complaints}
    assert found["line 2"] == ("shorter than 5 words", "a yes/no question", "the id 'a' is there already")
    assert found["line 4"][0].startswith("it is not valid JSON")
    assert found["line 5"] == ("nearly the same as line 1",)
    assert found["the set"] == ("3 items of 'x' and 1 of 'other'",)
    assert "line 1" not in found and "line 6" not in found


def test_an_empty_set_is_a_complaint_and_a_missing_one_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    assert check_set("safe", tmp_path / "none.jsonl").complaints[0].reasons == ("it is empty",)
    with pytest.raises(NotFoundError):
        check_set("safe", tmp_path / "missing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        check_set("safe", tmp_path / "bytes.jsonl")


def test_prompts_of_a_persona_are_compared_with_each_other() -> None:
    first = "You are a knight of the old king. You speak of honour, horses and the long road."
    persona = Persona(name="knight", system_prompts=(first, first.replace("king", "queen")))
    assert [c.reasons for c in check_persona(persona).complaints] == [("nearly the same as prompt 1",)]
