"""Vectors from two files of judged answers, the published way: paired, filtered, and captured teacher-forced.

    kept         trait(pos) >= threshold, trait(neg) < 100 - threshold, both coherences >= 50; no score keeps no pair
    prompt_avg   mean over the prompt's tokens        prompt_last   its last token
    response_avg mean over the answer's tokens
    vector       mean over the kept positive answers - mean over the kept negative ones, at every layer

Source: "Persona Vectors" (arXiv 2507.21509). Two things differ from its code: rows are paired by question id and
repetition and not by their place in the file, and prompt and answer are tokenised apart, so that no token spans
their border. Only running sums are kept, so memory does not grow with the number of answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from persona_steering.backends.base import Activations, Backend, Progress, ProgressCallback, Text, no_progress
from persona_steering.errors import CancelledError, PromptError, QualityError, UsageError
from persona_steering.evaluation.answers_file import AnswerRow
from persona_steering.extraction.run import Moments

MIN_COHERENCE = 50.0
CHUNK = 64  # answers captured between two looks at `cancelled`
PHASE = "capture"
POOLINGS = ("response_avg", "prompt_avg", "prompt_last")  # the published names
_ID = re.compile(r"(?P<place>.*_\d+)_(?:pos|neg)_(?P<instruction>\d+)")

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Pair:
    """Answers to one question with one number of instruction and repetition, from both sides."""

    positive: AnswerRow
    negative: AnswerRow


@dataclass(frozen=True)
class Filtered:
    """The pairs that pass, and how many of `total` failed which condition; a pair may fail several."""

    kept: tuple[Pair, ...]
    total: int
    failed: dict[str, int]
    unpaired: int

    @property
    def dropped(self) -> int:
        return self.total - len(self.kept)


def pair_rows(positive: Sequence[AnswerRow], negative: Sequence[AnswerRow]) -> tuple[list[Pair], int]:
    """The pairs by question id and repetition, in the order of `positive`; and how many rows have no partner.

    Raises UsageError where no row has a partner, or two of one id ask different questions.
    """
    left, right = _by_key(positive), _by_key(negative)
    pairs = [Pair(row, right[key]) for key, row in left.items() if key in right]
    if not pairs:
        raise UsageError(
            "no row of one file belongs to a row of the other.",
            hint=f"Their question ids are like {positive[0].question_id!r} and {negative[0].question_id!r}; "
            "give the pos and the neg file of one trait and split.",
        )
    for pair in pairs:
        if pair.positive.question != pair.negative.question:
            raise UsageError(
                f"line {pair.positive.line} of pos and line {pair.negative.line} of neg share the question id "
                f"{pair.positive.question_id!r}, but ask different questions.",
                hint="Make both files from the same trait and split.",
            )
    return pairs, len(left) + len(right) - 2 * len(pairs)


def _by_key(rows: Sequence[AnswerRow]) -> dict[Key, AnswerRow]:
    """Rows by their id without its side, and how often that id came before."""
    seen: Counter[str] = Counter()
    found: dict[Key, AnswerRow] = {}
    for row in rows:
        match = _ID.fullmatch(row.question_id)
        place = f"{match['place']}_{match['instruction']}" if match else row.question_id
        found[place, seen[place]] = row
        seen[place] += 1
    return found


def filter_pairs(
    pairs: Sequence[Pair], trait: str, *, threshold: float = 50, min_coherence: float = MIN_COHERENCE, unpaired: int = 0
) -> Filtered:
    """The pairs that pass all conditions. Raises QualityError when none does, with what to change."""
    conditions: dict[str, Callable[[Pair], bool]] = {
        f"{trait} below {threshold:g} in pos": lambda pair: _below(pair.positive.trait, threshold),
        f"{trait} at or above {100 - threshold:g} in neg": lambda pair: _not_below(
            pair.negative.trait, 100 - threshold
        ),
        f"coherence below {min_coherence:g} in pos": lambda pair: _below(pair.positive.coherence, min_coherence),
        f"coherence below {min_coherence:g} in neg": lambda pair: _below(pair.negative.coherence, min_coherence),
        "no score in pos": lambda pair: None in (pair.positive.trait, pair.positive.coherence),
        "no score in neg": lambda pair: None in (pair.negative.trait, pair.negative.coherence),
        "empty answer": lambda pair: not (pair.positive.answer and pair.negative.answer),
    }
    failed = dict.fromkeys(conditions, 0)
    kept = []
    for pair in pairs:
        reasons = [name for name, fails in conditions.items() if fails(pair)]
        for reason in reasons:
            failed[reason] += 1
        if not reasons:
            kept.append(pair)
    found = Filtered(tuple(kept), len(pairs), {name: count for name, count in failed.items() if count}, unpaired)
    if not kept:
        raise _nothing_kept(found)
    return found


def _below(score: float | None, bound: float) -> bool:
    return score is not None and score < bound


def _not_below(score: float | None, bound: float) -> bool:
    return score is not None and score >= bound


def _nothing_kept(found: Filtered) -> QualityError:
    listed = "; ".join(f"{count} have {name}" for name, count in found.failed.items())
    worst = max(found.failed, key=lambda name: found.failed[name])
    if "no score" in worst:
        hint = "Judge the answers first, or again: the same eval command judges what has no score."
    elif "coherence" in worst:
        hint = "Read some answers: does the model write whole sentences? Longer answers or another model may help."
    elif "empty" in worst:
        hint = "Read some answers: the model says nothing. Another model or instruction may help."
    else:
        hint = "Read some answers: does the model take the trait from its instructions? If so, change --threshold."
    return QualityError(f"none of {found.total} pairs passes the filter: {listed}.", hint=hint)


@dataclass
class SideMeans:
    """Running means of one side: `moments` by pooling, `[layers + 2, hidden]`, with both ends of the stream."""

    moments: dict[str, Moments] = field(default_factory=lambda: {pooling: Moments() for pooling in POOLINGS})
    norms: list[np.ndarray] = field(default_factory=list)  # mean token norm of each answer, [layers]

    def add(self, found: Activations) -> None:
        for pooling, at in (
            ("response_avg", found.mean),
            ("prompt_avg", found.prompt_mean),
            ("prompt_last", found.prompt_last),
        ):
            self.moments[pooling].add(np.stack([at[layer] for layer in sorted(at)]))
        self.norms.append(np.array([found.norms[layer] for layer in sorted(found.norms)][1:-1], np.float32))


@dataclass(frozen=True)
class BuiltVectors:
    """Differences of means by pooling, float32 `[layers + 2, hidden]`.

    Row 0 is what enters layer 0, row i + 1 is layer i, and the last row is what leaves the final norm. `norms` is the
    median token norm of the negative answers, `[layers]`.
    """

    differences: dict[str, np.ndarray]
    norms: np.ndarray
    left_out: int

    def published(self, pooling: str) -> np.ndarray:
        """`[layers + 1, hidden]` as published: row k is layer k-1, and the last row is after the final norm.

        The output of the last block itself has no row there.
        """
        rows = self.differences[pooling]
        return np.concatenate([rows[:-2], rows[-1:]])


def build_vectors(
    backend: Backend,
    pairs: Sequence[Pair],
    *,
    progress: ProgressCallback = no_progress,
    cancelled: Callable[[], bool] | None = None,
) -> BuiltVectors:
    """Captures both sides of the pairs, in batches.

    Pairs with an answer that exceeds the model's context, or is nothing but thoughts, are left out and counted.

    Raises QualityError when all do, CancelledError, and what the backend raises.
    """
    sides = SideMeans(), SideMeans()
    left_out = 0
    progress(Progress(PHASE, 0, len(pairs)))
    for start in range(0, len(pairs), CHUNK):
        if cancelled is not None and cancelled():
            raise CancelledError("stopped.", hint="The same command begins again: capturing keeps nothing on disk.")
        part = pairs[start : start + CHUNK]
        for found in _captured(backend, part):
            if found is None:
                left_out += 1
                continue
            for side, one in zip(sides, found, strict=True):
                side.add(one)
        progress(Progress(PHASE, start + len(part), len(pairs)))
    positive, negative = sides
    if not positive.norms:
        raise QualityError(
            "no pair of answers can be captured: they exceed the model's context, or are nothing but thoughts.",
            hint="Make the answers shorter.",
        )
    differences = {
        pooling: (positive.moments[pooling].mean - negative.moments[pooling].mean).astype(np.float32)
        for pooling in POOLINGS
    }
    return BuiltVectors(differences, np.median(np.stack(negative.norms), 0), left_out)


def _captured(backend: Backend, pairs: Sequence[Pair]) -> list[tuple[Activations, Activations] | None]:
    """Both sides of every pair; None where one cannot be read."""
    texts = [Text((), row.answer, rendered=row.prompt) for pair in pairs for row in (pair.positive, pair.negative)]
    try:
        found = backend.capture(texts, ends=True)
    except PromptError:
        if len(pairs) == 1:
            return [None]
        return [one for pair in pairs for one in _captured(backend, [pair])]
    both = zip(found[::2], found[1::2], strict=True)
    return [(pos, neg) if pos.tokens and neg.tokens else None for pos, neg in both]


def published_name(folder: Path, trait: str, pooling: str, suffix: str) -> Path:
    """Where a vector goes, by the published name."""
    return folder / f"{trait}_{pooling}_diff{suffix}"
