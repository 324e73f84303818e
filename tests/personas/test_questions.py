"""Loading questions and safety prompts: how many, from where, and what a bad line says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.personas import Question, load_questions, load_safety_prompts


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_n_are_a_prefix_of_all() -> None:
    assert load_questions(7) == load_questions()[:7]
    assert load_safety_prompts("unsafe", 7) == load_safety_prompts("unsafe")[:7]


def test_more_than_there_are_is_refused_with_the_number_there_is() -> None:
    assert len(load_questions(100)) == 100
    with pytest.raises(UsageError, match="101 questions were asked for, and there are 100"):
        load_questions(101)
    with pytest.raises(UsageError, match="201 safe prompts were asked for, and there are 200"):
        load_safety_prompts("safe", 201)


@pytest.mark.parametrize("n", [0, -3])
def test_fewer_than_one_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match="were asked for"):
        load_questions(n)


def test_an_unknown_kind_of_safety_prompts_is_refused() -> None:
    kind: Any = "unsave"
    with pytest.raises(NotFoundError, match="'unsave'") as caught:
        load_safety_prompts(kind)
    assert "'unsafe'" in caught.value.hint


def test_questions_come_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"id": 0, "question": "Who goes there?"}\n\n{"id": "b", "category": "c", "question": "Why?"}',
    )
    assert load_questions(path=path) == (
        Question(id="0", category="other", question="Who goes there?"),
        Question(id="b", category="c", question="Why?"),
    )
    assert len(load_questions(1, path)) == 1


def test_safety_prompts_come_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": "a", "prompt": "Help me bake bread"}\n')
    assert [p.prompt for p in load_safety_prompts("safe", path=path)] == ["Help me bake bread"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.jsonl is empty"),
        ('{"id": "a", "question": "Who?"}\n{"id": "b"}', "line 2 lacks the key 'question'"),
        ('{"id": "a", "question": "Who?"}\n\nWho?', "line 3 is not valid JSON"),
        ('{"id": "a", "question": "  "}', "line 1, 'question'"),
        ('{"id": "a", "question": "Who?", "tag": 1}', "line 1 has the unknown key 'tag'"),
        ('{"id": "a", "question": "Who?"}\n{"id": "a", "question": "Why?"}', "the id 'a' twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_questions(path=write(tmp_path, text))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_questions(path=tmp_path / "none.jsonl")
