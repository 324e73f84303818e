"""What a vector does to answers, shown: the same question answered plainly and steered, as it was measured.

A creation keeps those on which its strength was confirmed, in its run folder; a sweep has them in its result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from persona_steering.evaluation.sweep import Sweep, SweepPoint
from persona_steering.files import write_atomically
from persona_steering.scoring.examples import Example
from persona_steering.vectors.values import Closed

FILE_NAME = "examples.json"


class Examples(Closed):
    """Answers to some questions before and after. `vector` is the digest of the directions that steered."""

    source: Literal["creation", "sweep"]
    vector: str
    strength: float
    safe: bool | None = Field(description="whether its safe form steered, under the floor; null: not recorded")
    data: tuple[Example, ...]


def keep_examples(folder: Path, examples: Examples) -> None:
    """Writes them into a run folder. Raises StorageError."""
    write_atomically(folder / FILE_NAME, examples.model_dump_json(indent=1).encode())


def find_examples(digest: str, runs: Path) -> Examples | None:
    """The newest examples of the directions with this digest; None where none were kept."""
    files = sorted((*runs.glob(f"*/{FILE_NAME}"), *runs.glob("sweep-*/sweep.json")), key=_modified, reverse=True)
    found = (_read(file, digest) for file in files)
    return next((one for one in found if one is not None), None)


def _read(file: Path, digest: str) -> Examples | None:
    try:
        if file.name == FILE_NAME:
            kept = Examples.model_validate_json(file.read_bytes())
            return kept if kept.vector == digest else None
        if json.loads((file.parent / "plan.json").read_bytes()).get("vector") != digest:
            return None
        return _of_sweep(Sweep.model_validate_json(file.read_bytes()), digest)
    except (OSError, ValueError, AttributeError, ValidationError):
        return None  # the result of something else


def _of_sweep(sweep: Sweep, digest: str) -> Examples | None:
    """Those at the strongest strength up to 1 that stayed coherent, beside the answers at 0."""
    plain = next((point for point in sweep.points if point.strength == 0), None)
    best = max(_usable(sweep), key=lambda point: point.strength, default=None)
    if plain is None or best is None:
        return None
    pairs = zip(plain.answers, best.answers, strict=True)
    data = tuple(
        Example(question=new.question, before=old.text, after=new.text, gain=new.gain, coherence=new.coherence)
        for old, new in pairs
    )
    return Examples(source="sweep", vector=digest, strength=best.strength, safe=None, data=data)


def _usable(sweep: Sweep) -> Iterator[SweepPoint]:
    most = sweep.coherent[1] if sweep.coherent else 0.0
    return (point for point in sweep.points if 0 < point.strength <= min(most, 1.0))


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
