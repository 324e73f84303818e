"""Judgements on disk: nothing is asked twice, a failure is asked again, and a killed process loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue

from persona_steering.errors import StorageError
from persona_steering.scoring.judges import CachedJudge, Judge, JudgeItem, Judgement, OnDone


class Counting(Judge):
    """Judges by the answer's length, and fails on an empty one."""

    def __init__(self, min_mass: float = 0.25) -> None:
        self.asked: list[JudgeItem] = []
        self._min_mass = min_mass

    @property
    def id(self) -> str:
        return "counting"

    @property
    def settings(self) -> dict[str, JsonValue]:
        return {"min_mass": self._min_mass}

    def judge(
        self,
        items: Sequence[JudgeItem],
        *,
        on_done: OnDone | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Judgement]:
        self.asked += items
        found = [judged(item.answer) for item in items]
        for i, one in reversed(list(enumerate(found))):  # in any order, as a server's answers come in
            if on_done is not None:
                on_done(i, one)
        return found


def judged(answer: str) -> Judgement:
    if answer in ("", "no"):
        outcome = "refusal" if answer else "failed"
        return Judgement(outcome=outcome, judge="counting", method="samples", reason="it says so")  # type: ignore[arg-type]
    return Judgement(outcome="score", judge="counting", method="samples", score=len(answer), top=(("1", -0.5),))


def items(*answers: str, rubric: str = "{question}: {answer}") -> list[JudgeItem]:
    return [JudgeItem(rubric, "Is it far?", answer) for answer in answers]


def test_equal_items_are_asked_once_and_a_second_time_not_at_all(tmp_path: Path) -> None:
    asked = items("a", "bb", "a", "no")
    for expected in (["a", "bb", "no"], []):
        inner = Counting()
        told: dict[int, Judgement] = {}
        with CachedJudge(inner, tmp_path / "deep" / "j.sqlite") as judge:
            found = judge.judge(asked, on_done=told.__setitem__)
        assert [one.score for one in found] == [1, 2, 1, None] and found[3].outcome == "refusal"
        assert [told[i] for i in range(4)] == found
        assert [item.answer for item in inner.asked] == expected


def test_a_failure_is_asked_again(tmp_path: Path) -> None:
    for _ in range(2):
        inner = Counting()
        with CachedJudge(inner, tmp_path / "j.sqlite") as judge:
            assert judge.judge(items("", "a"))[0].outcome == "failed"
            assert judge.known(items("", "a")) == 1
        assert "" in [item.answer for item in inner.asked]


def test_another_rubric_question_judge_or_setting_is_another_judgement(tmp_path: Path) -> None:
    with CachedJudge(Counting(), tmp_path / "j.sqlite") as judge:
        judge.judge(items("a"))
        assert judge.known(items("a")) == 1
        assert judge.known(items("a", rubric="{answer}? {question}")) == 0
        assert judge.known([JudgeItem("{question}: {answer}", "Another?", "a")]) == 0
    with CachedJudge(Counting(min_mass=0.5), tmp_path / "j.sqlite") as judge:
        assert judge.known(items("a")) == 0


def test_a_file_that_is_no_database_is_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_text("not a database" * 100)
    with pytest.raises(StorageError, match=r"j\.sqlite cannot be used"):
        CachedJudge(Counting(), tmp_path / "j.sqlite")


def test_what_was_judged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from tests.scoring.judges.test_cached import Counting, items
        from persona_steering.scoring.judges import CachedJudge
        def told(i, found):
            print(i, flush=True)
            time.sleep(60 if i == 1 else 0)
        with CachedJudge(Counting(), Path(sys.argv[1])) as judge:
            judge.judge(items("a", "bb", "ccc"), on_done=told)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "j.sqlite")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["2", "1"]
        process.send_signal(signal.SIGKILL)
    inner = Counting()
    with CachedJudge(inner, tmp_path / "j.sqlite") as judge:
        assert [one.score for one in judge.judge(items("a", "bb", "ccc"))] == [1, 2, 3]
    assert [item.answer for item in inner.asked] == ["a"]
