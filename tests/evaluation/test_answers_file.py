"""The published CSV: what is written is read back, whatever an answer looks like; bad files are named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_steering.errors import NotFoundError, UsageError
from persona_steering.evaluation.answers_file import AnswerRow, read_answers, write_answers

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SCORE = st.one_of(st.none(), st.floats(0, 100))
HEAD = "question,prompt,answer,question_id,evil,coherence\n"


def row(answer: str, **more: object) -> AnswerRow:
    return AnswerRow("Is it far?", "<s>Is it far?", answer, "evil_0", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", ["NA", "null", "None", "nan", "", " ", "a\nb", "a\rb", "a\r\nb", '"', ",", "=1+1", "é"]
)
def test_an_answer_survives_whatever_it_looks_like(answer: str, tmp_path: Path) -> None:
    write_answers(tmp_path / "a.csv", "evil", [row(answer, trait=1.5, coherence=None), row("next")])
    first, second = read_answers(tmp_path / "a.csv", "evil")
    assert (first.answer, first.trait, first.coherence) == (answer, 1.5, None)
    assert (second.answer, second.trait) == ("next", None)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, SCORE, SCORE), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_are_read_as_written(tmp_path: Path, given_rows: list[tuple[str, str, str, str, float, float]]) -> None:
    rows = [AnswerRow(*cells[:1], cells[1] or "p", *cells[2:]) for cells in given_rows]
    write_answers(tmp_path / "a.csv", "evil", rows)
    found = read_answers(tmp_path / "a.csv", "evil")
    assert [(*vars_of(one),) for one in found] == [(*vars_of(one),) for one in rows]


def vars_of(one: AnswerRow) -> tuple[object, ...]:
    return one.question, one.prompt, one.answer, one.question_id, one.trait, one.coherence


def test_the_columns_are_the_published_ones_and_scores_are_plain_numbers(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.csv", "evil", [row("x", trait=0.1 + 0.2, coherence=7)])
    with open(tmp_path / "a.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["question", "prompt", "answer", "question_id", "evil", "coherence"],
            ["Is it far?", "<s>Is it far?", "x", "evil_0", "0.30000000000000004", "7.0"],
        ]


def test_scores_that_other_tools_leave_out_and_further_columns_are_taken(tmp_path: Path) -> None:
    head = HEAD.replace("coherence", "coherence,m_v_proj_layer20")
    (tmp_path / "a.csv").write_text("\ufeff" + head + "q,p,a,evil_0,nan,,1.5\nq,p,a,evil_0,98.2,NaN,\n")
    found = read_answers(tmp_path / "a.csv", "evil")
    assert [(one.trait, one.coherence, one.line) for one in found] == [(None, None, 2), (98.2, None, 3)]


def test_an_answer_longer_than_the_csv_modules_own_limit_is_read(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.csv", "evil", [row("x" * 200_000)])
    assert len(read_answers(tmp_path / "a.csv", "evil")[0].answer) == 200_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'prompt'"),
        ("question,prompt,answer,question_id,kind,coherence\n", "no column 'evil'"),
        (HEAD, "has no rows"),
        (HEAD + "q,p,a,evil_0,1\n", "line 2: it has 5 cells"),
        (HEAD + "q,p,a,evil_0,1,2\nq,p,a,evil_0,high,2\n", "line 3: 'evil' is 'high', not a number"),
        (HEAD + "q,p,a,evil_0,1,inf\n", "'coherence' is 'inf'"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_answers(tmp_path / "a.csv", "evil")


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_answers(tmp_path / "none.csv", "evil")
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="is not a"):
        read_answers(tmp_path / "a.jsonl", "evil")
