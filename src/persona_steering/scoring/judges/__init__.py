"""Judges: whoever rates an answer from 0 to 100 by a rubric. The remote one is in `judges.remote`, with its client."""

from __future__ import annotations

from persona_steering.scoring.judges.base import Judge, JudgeItem, Judgement, Method, OnDone, Outcome
from persona_steering.scoring.judges.cached import CachedJudge
from persona_steering.scoring.judges.expectation import Tally, expectation
from persona_steering.scoring.judges.local import LocalJudge
from persona_steering.scoring.judges.rubrics import COHERENCE

__all__ = [
    "COHERENCE",
    "CachedJudge",
    "Judge",
    "JudgeItem",
    "Judgement",
    "LocalJudge",
    "Method",
    "OnDone",
    "Outcome",
    "Tally",
    "expectation",
]
