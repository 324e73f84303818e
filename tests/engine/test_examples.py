"""Answers before and after: kept by a creation, found in a sweep, and only those of these directions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from persona_steering.engine.examples import Examples, find_examples, keep_examples
from persona_steering.evaluation.dosing import AnswerRecord
from persona_steering.evaluation.sweep import Sweep, SweepPoint
from persona_steering.scoring.effects import Measurement
from persona_steering.scoring.examples import Example
from persona_steering.vectors import Interval

DIGEST = "d" * 64
FLAT = Interval(mean=1, low=1, high=1)
MEASURED = Measurement(score=FLAT, gain=FLAT, coherence=FLAT)


def point(strength: float) -> SweepPoint:
    answer = AnswerRecord(question="Why?", system_prompt="", text=f"at {strength:g}", gain=strength, coherence=90)
    return SweepPoint(
        strength=strength, steered=MEASURED, control=MEASURED, anti_steered=None, answers=(answer,), control_answers=()
    )


def sweep(runs: Path, *strengths: float, coherent: tuple[float, float] | None, vector: str = DIGEST) -> Path:
    found = Sweep(
        points=tuple(map(point, strengths)),
        prompted=MEASURED,
        coherent=coherent,
        collapse_below=None,
        collapse_above=None,
        controls=1,
        questions=1,
    )
    folder = runs / f"sweep-sage-{len(list(runs.iterdir()))}"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"vector": vector}))
    (folder / "sweep.json").write_text(found.model_dump_json())
    return folder / "sweep.json"


def creation(runs: Path, vector: str = DIGEST) -> Path:
    example = Example(question="Why?", before="plain", after="steered", gain=0.5, coherence=90)
    kept = Examples(source="creation", vector=vector, strength=1, safe=True, data=(example,))
    keep_examples(runs / "sage-1", kept)
    return runs / "sage-1" / "examples.json"


def test_there_are_none_where_nothing_was_kept(tmp_path: Path) -> None:
    assert find_examples(DIGEST, tmp_path) is None
    assert find_examples(DIGEST, tmp_path / "nothing") is None


def test_those_of_other_directions_are_left_alone(tmp_path: Path) -> None:
    creation(tmp_path, vector="e" * 64)
    sweep(tmp_path, 0, 1, coherent=(0, 1), vector="e" * 64)
    assert find_examples(DIGEST, tmp_path) is None


def test_a_sweep_shows_its_strongest_coherent_strength_up_to_one(tmp_path: Path) -> None:
    sweep(tmp_path, -1, 0, 0.5, 1, 1.5, coherent=(-1, 1.5))
    found = find_examples(DIGEST, tmp_path)
    assert found is not None and (found.source, found.strength, found.safe) == ("sweep", 1.0, None)
    assert [(one.before, one.after) for one in found.data] == [("at 0", "at 1")]


@pytest.mark.parametrize(
    ("strengths", "coherent"), [((0.5, 1), (0.5, 1)), ((0, 1), None), ((0, 1), (0, 0)), ((-1, 0), (-1, 0))]
)
def test_a_sweep_without_a_base_or_a_coherent_strength_shows_nothing(
    strengths: tuple[float, ...], coherent: tuple[float, float] | None, tmp_path: Path
) -> None:
    sweep(tmp_path, *strengths, coherent=coherent)
    assert find_examples(DIGEST, tmp_path) is None


@pytest.mark.parametrize("newest", ["creation", "sweep"])
def test_the_newest_are_shown(newest: str, tmp_path: Path) -> None:
    files = {"creation": creation(tmp_path), "sweep": sweep(tmp_path, 0, 1, coherent=(0, 1))}
    for name, file in files.items():
        os.utime(file, (2_000_000_000 if name == newest else 1_000_000_000,) * 2)
    found = find_examples(DIGEST, tmp_path)
    assert found is not None and found.source == newest


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"vector": 3}'])
@pytest.mark.parametrize("name", ["sweep.json", "plan.json", "examples.json"])
def test_a_file_that_is_something_else_is_passed_over(name: str, content: str, tmp_path: Path) -> None:
    file = creation(tmp_path) if name == "examples.json" else sweep(tmp_path, 0, 1, coherent=(0, 1)).with_name(name)
    file.write_text(content)
    assert find_examples(DIGEST, tmp_path) is None
