"""How long a piece of work takes here: its answers are counted, and the speed is measured on the loaded model.

    seconds = answers / batch * (reading the prompts + tokens * one step) + texts scored * seconds per text

One answer and a few are timed at two lengths each, which gives the parts; a full batch is extrapolated in a straight
line, so that this takes seconds and not a minute on a CPU. It is an estimate: answers that end early
make the work shorter, and another program on the machine makes it longer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from persona_steering.backends.base import Backend, Request, Sampling, Text, conversation
from persona_steering.calibration.layers import candidate_bands
from persona_steering.engine.create import Creator
from persona_steering.extraction.contrast import ExtractionSettings, Prompted, pair_up, requests_for
from persona_steering.extraction.run import BATCH, Run
from persona_steering.personas import Persona, Trait

SCORES_PER_ANSWER = 2  # under the persona's prompt, and without it
BYTES = 4  # of a float32
_QUESTION = "What would you do with a free afternoon, and why?"
_SYSTEM = (
    "You are a patient teacher who has seen many pupils come and go. You speak slowly, in pictures from daily life, "
    "and you never hurry to an answer."
)
_SHORT, _LONG = 2, 10  # tokens
_FEW = 8  # answers


@dataclass(frozen=True, slots=True)
class Work:
    """One phase: how many answers are written, of how many tokens at most, and how many texts are scored.

    `captured` says whether the answers' activations are kept too.
    """

    phase: str
    answers: int
    tokens: int
    scored: int = 0
    captured: bool = True


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured: seconds to read a full batch of prompts, to write one token of all its answers, and to
    score one text."""

    prefill: float
    step: float
    score: float

    def seconds(self, work: Sequence[Work]) -> float:
        """The estimate for some phases."""
        writing = sum(one.answers / BATCH * (self.prefill + one.tokens * self.step) for one in work)
        return writing + self.score * sum(one.scored for one in work)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a piece of work comes to here."""

    work: tuple[Work, ...]
    seconds: float
    disk: int

    @property
    def answers(self) -> int:
        return sum(one.answers for one in self.work)

    @property
    def tokens(self) -> int:
        """At most."""
        return sum(one.answers * one.tokens for one in self.work)


def measure_speed(backend: Backend) -> Speed:
    """Times one answer, a few answers and a few texts to score: seconds. What the backend raises passes."""
    _timed(backend, 1, _SHORT)  # the first pass of a fresh model pays for what the others find done
    (_, single), (prefill, several) = _parts(backend, 1), _parts(backend, _FEW)
    step = single + max(several - single, 0.0) / (_FEW - 1) * (BATCH - 1)
    texts = [Text(conversation(f"{i}. {_QUESTION}", _SYSTEM), _SYSTEM) for i in range(_FEW)]
    start = time.perf_counter()
    backend.score(texts)
    return Speed(prefill=prefill * BATCH / _FEW, step=step, score=(time.perf_counter() - start) / _FEW)


def _parts(backend: Backend, count: int) -> tuple[float, float]:
    """Seconds to read the prompts of `count` answers, and to write one token of all of them."""
    short, long = _timed(backend, count, _SHORT), _timed(backend, count, _LONG)
    step = max(long - short, 0.0) / (_LONG - _SHORT)
    return max(short - _SHORT * step, 0.0), step


def estimate(work: Sequence[Work], speed: Speed, *, layers: int, hidden: int) -> Estimate:
    """The time and disk space of some phases. A captured answer's mean activation of every layer is kept."""
    captured = sum(one.answers for one in work if one.captured)
    return Estimate(tuple(work), speed.seconds(work), captured * layers * hidden * BYTES)


def creation_work(creator: Creator, subject: Persona | Trait, *, alone: bool = True) -> list[Work]:
    """The phases of `creator.create(subject)`. With `alone` the baseline and the safety axis that are still missing."""
    settings = creator.extraction_settings(subject)
    work = [] if not alone else baseline_work(creator, settings)
    if alone and not creator.manager.has_safety_axis():
        work += safety_work(creator)
    plan = subject.model_dump(mode="json")
    for phase, asked in _contrasts(subject, settings).items():
        left = _unanswered(creator, subject.name, settings, plan, asked, phase)
        work.append(Work(phase, left, settings.max_new_tokens, SCORES_PER_ANSWER * len(asked)))
    return work + calibration_work(creator, settings)


def baseline_work(creator: Creator, settings: ExtractionSettings | None = None) -> list[Work]:
    """The model's own answers that are not on disk yet."""
    settings = settings or creator.extraction_settings()
    asked = pair_up(settings, [None] * settings.prompts_per_question)
    left = _unanswered(creator, "baseline", settings, None, asked, "baseline")
    return [Work("baseline", left, settings.max_new_tokens)] if left else []


def safety_work(creator: Creator) -> list[Work]:
    """The answers to safe and unsafe prompts that are not on disk yet."""
    settings = creator.extraction_settings()
    sides = creator.safety_prompts()
    plan: list[JsonValue] = [prompt for side in sides for prompt in side]
    counts = {
        phase: _unanswered(creator, "safety", settings, plan, [Prompted(prompt, None) for prompt in prompts], phase)
        for phase, prompts in zip(("safe", "unsafe"), sides, strict=True)
    }
    return [Work(phase, count, settings.max_new_tokens) for phase, count in counts.items() if count]


def calibration_work(creator: Creator, settings: ExtractionSettings) -> list[Work]:
    """The phases of the dose search, where the first dose that is confirmed passes."""
    search = creator.calibration_settings()
    bands = len(candidate_bands(settings.layers, creator.model.identity.num_layers))
    confirming = len(search.questions) - search.search_questions
    counts = {
        "reference": 2 * len(search.questions),
        "bands": bands * len(search.coarse_doses) * search.coarse_questions,
        "doses": search.fine_bands * len(search.fine_factors) * search.search_questions,
        "confirm": (2 + search.controls) * confirming,  # raw, safe and the controls
    }
    return [Work(phase, n, search.max_new_tokens, SCORES_PER_ANSWER * n, captured=False) for phase, n in counts.items()]


def _contrasts(subject: Persona | Trait, settings: ExtractionSettings) -> dict[str, list[Prompted]]:
    """What each side of the contrast is asked, by phase."""
    if isinstance(subject, Persona):
        return {"persona": pair_up(settings, subject.system_prompts)}
    positive, negative = [pair.pos for pair in subject.pairs], [pair.neg for pair in subject.pairs]
    return {"positive": pair_up(settings, positive, negative), "negative": pair_up(settings, negative, positive)}


def _unanswered(
    creator: Creator,
    name: str,
    settings: ExtractionSettings,
    plan: JsonValue,
    asked: Sequence[Prompted],
    phase: str,
) -> int:
    folder = creator.run_folder(name, settings, plan)
    return len(asked) - Run.saved(folder, requests_for(asked, settings, phase), phase=phase)


def _timed(backend: Backend, count: int, tokens: int) -> float:
    sampling = Sampling(max_new_tokens=tokens)
    requests = [Request(conversation(f"{i}. {_QUESTION}", _SYSTEM), sampling=sampling) for i in range(count)]
    start = time.perf_counter()
    backend.generate(requests)
    return time.perf_counter() - start
