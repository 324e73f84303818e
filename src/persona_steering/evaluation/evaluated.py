"""What an evaluation found: a score and a coherence with intervals, how many answers have none and why, and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from persona_steering.evaluation.ratings import Rating
from persona_steering.evaluation.report import AnswerGroup, Answers, Note, Report, Section, ShownAnswer, Table
from persona_steering.evaluation.rollouts import Rollout, Side, Split
from persona_steering.scoring.judges import Judgement
from persona_steering.scoring.likelihood import mean_interval
from persona_steering.vectors.values import Closed, Interval

NOT_JUDGED = "none: the answers were not judged"


class Summary(Closed):
    """A score over all answers: mean of the questions' means with a 95 % bootstrap interval over questions.

    `mean` is None where no answer has a score.
    """

    mean: Interval | None
    scored: int
    refused: int
    failed: int
    reasons: dict[str, int]
    methods: tuple[str, ...]


class Evaluated(Closed):
    """What `eval` did. Scores are None where nothing was judged."""

    file: Path
    judgements: Path
    report: Path
    run: Path
    model: str
    trait: str
    split: Split
    side: Side | None
    answers: int
    questions: int
    recipe: list[JsonValue]
    judge: str | None
    remarks: tuple[str, ...]
    trait_score: Summary | None
    coherence: Summary | None


def summary(questions: Sequence[str], judgements: Sequence[Judgement]) -> Summary:
    """The summary of one judgement for each answer, whose question stands at the same place."""
    scores: dict[str, list[float]] = {}
    for question, found in zip(questions, judgements, strict=True):
        if found.score is not None:
            scores.setdefault(question, []).append(found.score)
    outcomes = Counter(found.outcome for found in judgements)
    return Summary(
        mean=mean_interval([float(np.mean(values)) for values in scores.values()]) if scores else None,
        scored=outcomes["score"],
        refused=outcomes["refusal"],
        failed=outcomes["failed"],
        reasons=dict(Counter(found.reason for found in judgements if found.outcome == "failed").most_common(10)),
        methods=tuple(sorted({found.method for found in judgements})),
    )


def evaluated_report(
    found: Evaluated, rollouts: Sequence[Rollout], texts: Sequence[str], ratings: Sequence[Rating] | None
) -> Report:
    """The scores of all, of every question, and every answer."""
    sections: list[Section] = [Note(remark, caution=True) for remark in found.remarks]
    if found.trait_score is not None and found.coherence is not None:
        sections.append(_scores(found.trait, found.trait_score, found.coherence))
    places: dict[str, list[int]] = {}
    for i, rollout in enumerate(rollouts):
        places.setdefault(rollout.question, []).append(i)
    groups = [
        AnswerGroup(f"question-{n}", question, [_shown(rollouts[i], texts[i], ratings, i, found.trait) for i in rows])
        for n, (question, rows) in enumerate(places.items())
    ]
    under = f" under {found.side} instructions" if found.side else ""
    return Report(
        f"{found.trait}: answers to the {found.split} questions{under}",
        [*sections, Answers("Answers", groups)],
        judge=found.judge or NOT_JUDGED,
        n=f"{found.answers} answers to {found.questions} questions",
        facts={"model": found.model, "steered": "yes" if found.recipe else "no", "written to": str(found.file)},
    )


def _scores(trait: str, score: Summary, coherence: Summary) -> Table:
    rows = [
        (name, one.mean, one.scored, one.refused, one.failed)
        for name, one in ((trait, score), ("coherence", coherence))
    ]
    return Table(
        "Scores, 0 to 100",
        ("score of", "mean", "scored", "refusals", "failures"),
        rows,
        note="Mean of the questions' means, with a 95 % bootstrap interval over questions.",
    )


def _shown(rollout: Rollout, text: str, ratings: Sequence[Rating] | None, i: int, trait: str) -> ShownAnswer:
    values: dict[str, float | str | None] = {}
    if ratings is not None:
        values = {trait: _value(ratings[i].trait), "coherence": _value(ratings[i].coherence)}
    return ShownAnswer(rollout.question, text, values, system_prompt=rollout.system or "")


def _value(found: Judgement) -> float | str:
    return found.score if found.score is not None else f"{found.outcome}: {found.reason}"
