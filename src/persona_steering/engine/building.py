"""The use case behind `vectors build`: two files of judged answers become vectors, native and as published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from persona_steering.backends.base import ProgressCallback, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.errors import UsageError
from persona_steering.evaluation.answers_file import read_answers
from persona_steering.evaluation.build import (
    MIN_COHERENCE,
    POOLINGS,
    BuiltVectors,
    Filtered,
    build_vectors,
    filter_pairs,
    pair_rows,
    published_name,
)
from persona_steering.personas import Trait, list_traits, load_library_trait
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import ModelIdentity, SteeringVector, VectorMetadata, check_name, suggest_name
from persona_steering.vectors.formats import persona_vectors_pt, safetensors
from persona_steering.vectors.metadata import package_version
from persona_steering.vectors.values import Closed

USED = "response_avg"  # the pooling that steers in the paper
_POOLINGS = {"response_avg": "response_mean", "prompt_avg": "prompt_mean", "prompt_last": "prompt_last"}


@dataclass(frozen=True)
class Building:
    """What is to be built. `trait` names the column of the scores.

    The response vector goes into the store, called `name` (the trait where it is None), unless there is a
    `save_dir` and no name. `save_dir` gets all three vectors, native and as published.
    """

    positive: Path
    negative: Path
    trait: str
    threshold: float = 50
    min_coherence: float = MIN_COHERENCE
    save_dir: Path | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        for what, value in (("threshold", self.threshold), ("minimal coherence", self.min_coherence)):
            if not 0 <= value <= 100:
                raise UsageError(f"a {what} of {value:g} is no score.", hint="Give a number from 0 to 100.")
        if Path(self.trait).name != self.trait or not self.trait.strip():
            raise UsageError(f"{self.trait!r} is no trait.", hint="Give the name of the column with its scores.")
        if self.name is not None:
            check_name(self.name)

    @property
    def stored_name(self) -> str | None:
        """What the vector is called in the store; None where it stays out of it."""
        if self.name is None and self.save_dir is not None:
            return None
        return self.name or suggest_name(self.trait)

    def pairs(self) -> Filtered:
        """The pairs that pass, read from the files. No model is needed.

        Raises NotFoundError or UsageError for the files, QualityError when no pair passes.
        """
        positive, negative = (read_answers(path, self.trait) for path in (self.positive, self.negative))
        paired, unpaired = pair_rows(positive, negative)
        return filter_pairs(
            paired, self.trait, threshold=self.threshold, min_coherence=self.min_coherence, unpaired=unpaired
        )


class Built(Closed):
    """What `vectors build` did. `failed` counts pairs by the condition that they failed; a pair may fail several."""

    trait: str
    model: str
    pairs: int
    kept: int
    unpaired: int
    failed: dict[str, int]
    left_out: int
    stored: str | None
    files: tuple[Path, ...]
    norms: dict[int, float]


def build(
    model: ModelWrapper,
    manager: PersonaManager,
    asked: Building,
    *,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> Built:
    """Filters, captures and writes. Raises as `Building.pairs`, and UsageError for a name that is taken."""
    filtered = asked.pairs()
    manager.bind(model.identity)
    name = asked.stored_name
    if name is not None and name in manager.list_available():
        raise UsageError(
            f"{name!r} exists already for this model.",
            hint=f"Choose another --name, write to a folder with --save-dir, or delete it: persona-steer delete {name}",
        )
    built = build_vectors(model.backend, filtered.kept, progress=progress, cancelled=cancelled)
    vectors = {pooling: _vector(asked, filtered, built, pooling, model.identity) for pooling in POOLINGS}
    if name is not None:
        manager.save(vectors[USED])
    files = () if asked.save_dir is None else _write(asked.save_dir, asked.trait, vectors, built)
    return Built(
        trait=asked.trait,
        model=model.identity.id,
        pairs=filtered.total,
        kept=len(filtered.kept) - built.left_out,
        unpaired=filtered.unpaired,
        failed=filtered.failed,
        left_out=built.left_out,
        stored=name,
        files=files,
        norms=vectors[USED].norms,
    )


def _vector(
    asked: Building, filtered: Filtered, built: BuiltVectors, pooling: str, model: ModelIdentity
) -> SteeringVector:
    """One pooling's vector at every layer; the two ends of the stream are no layers."""
    rows = built.differences[pooling][1:-1]
    known = load_library_trait(asked.trait) if asked.trait in list_traits() else None
    failed: dict[str, JsonValue] = dict(filtered.failed)
    kept = len(filtered.kept) - built.left_out
    return SteeringVector(
        dict(enumerate(rows)),
        VectorMetadata(
            name=asked.stored_name or suggest_name(asked.trait),
            kind="trait",
            description=known.description if known else "",
            model=model,
            sign=f"+ is more {asked.trait}",
            pooling=_POOLINGS[pooling],
            source=f"answers:{asked.positive.name} - {asked.negative.name}",
            opposite=_opposite(known),
            counts={"kept": kept, "dropped": filtered.total - kept, "contrast_kept": kept},
            judge=_judge(asked),
            data_hashes={"pos": _hash(asked.positive), "neg": _hash(asked.negative)},
            reference_norms={layer: float(norm) for layer, norm in enumerate(built.norms)},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=package_version(),
            settings={
                "threshold": asked.threshold,
                "min_coherence": asked.min_coherence,
                "failed": failed,
                "unpaired": filtered.unpaired,
            },
        ),
    )


def _write(folder: Path, trait: str, vectors: dict[str, SteeringVector], built: BuiltVectors) -> tuple[Path, ...]:
    files = []
    for pooling, vector in vectors.items():
        published, native = (published_name(folder, trait, pooling, suffix) for suffix in (".pt", ".safetensors"))
        persona_vectors_pt.write_rows(published, built.published(pooling))
        safetensors.write(native, vector)
        files += [published, native]
    return tuple(files)


def _opposite(trait: Trait | None) -> str:
    return trait.opposite if trait else ""


def _judge(asked: Building) -> str:
    """Who judged, as the files beside the two say; empty where they do not."""
    found = []
    for path in (asked.positive, asked.negative):
        beside = path.with_name(f"{path.stem}.judgements.json")
        try:
            judge = json.loads(beside.read_text("utf-8"))["judge"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        found.append(str(judge or ""))
    return " and ".join(dict.fromkeys(found))


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
