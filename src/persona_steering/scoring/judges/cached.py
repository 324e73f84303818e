"""Judgements kept on disk, so that nothing is paid for twice: SQLite, one transaction a judgement.

What was committed survives a killed process; several processes may share the file. Failures are not kept: the
same command judges them again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue, ValidationError

from persona_steering.errors import StorageError
from persona_steering.files import storage_error
from persona_steering.scoring.judges.base import Judge, JudgeItem, Judgement, OnDone

_TABLE = """
CREATE TABLE IF NOT EXISTS judgements (
    judge TEXT NOT NULL, prompt TEXT NOT NULL, answer TEXT NOT NULL, judgement TEXT NOT NULL,
    PRIMARY KEY (judge, prompt, answer)
) WITHOUT ROWID
"""
_WAIT = 30.0  # seconds for another process that is writing

Key = tuple[str, str, str]


class CachedJudge(Judge):
    """`judge`, asked only for what `file` does not hold yet.

    The key is the judge with its settings, the hash of the rubric with its question, and the hash of the answer.
    Raises StorageError where the file cannot be used.
    """

    def __init__(self, judge: Judge, file: Path) -> None:
        self.inner = judge
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, file) from error
        with self._guarded():
            self._database = sqlite3.connect(file, timeout=_WAIT)
            self._database.execute(_TABLE)
        self._judge = f"{judge.id} {json.dumps(judge.settings, sort_keys=True)}"

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def settings(self) -> dict[str, JsonValue]:
        return self.inner.settings

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.inner.remarks

    def judge(
        self,
        items: Sequence[JudgeItem],
        *,
        on_done: OnDone | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Judgement]:
        keys = [self._key(item) for item in items]
        places: dict[Key, list[int]] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, []).append(i)  # equal answers are judged once
        done: dict[Key, Judgement] = {}

        def tell(key: Key, found: Judgement) -> None:
            done[key] = found
            if on_done is not None:
                for i in places[key]:
                    on_done(i, found)

        for key in places:
            known = self._read(key)
            if known is not None:
                tell(key, known)
        waiting = [key for key in places if key not in done]

        def keep(index: int, found: Judgement) -> None:
            self._write(waiting[index], found)
            tell(waiting[index], found)

        if waiting:
            self.inner.judge([items[places[key][0]] for key in waiting], on_done=keep, cancelled=cancelled)
        return [done[key] for key in keys]

    def known(self, items: Sequence[JudgeItem]) -> int:
        """How many of these items need no judging."""
        return sum(self._read(self._key(item)) is not None for item in items)

    def close(self) -> None:
        self._database.close()
        self.inner.close()

    def _key(self, item: JudgeItem) -> Key:
        asked = JudgeItem(item.rubric, item.question, "").prompt
        return self._judge, _hash(asked), _hash(item.answer)

    def _read(self, key: Key) -> Judgement | None:
        with self._guarded():
            row = self._database.execute(
                "SELECT judgement FROM judgements WHERE judge = ? AND prompt = ? AND answer = ?", key
            ).fetchone()
        try:
            return Judgement.model_validate_json(row[0]) if row else None
        except ValidationError:  # written by another version; judged again
            return None

    def _write(self, key: Key, found: Judgement) -> None:
        if found.outcome == "failed":
            return
        with self._guarded(), self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?)", (*key, found.model_dump_json())
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"the judgements in {self._file} cannot be used: {error}.",
                hint="Free some space, or move that file away; answers are then judged again.",
            ) from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
