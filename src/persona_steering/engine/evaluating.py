"""The use case behind `eval`: a trait's questions answered, steered or not, by one engine, and rated.

Answers are in the run folder and in the CSV file before anything is judged. The same command goes on where it was
stopped: it asks what was not answered, and judges what has no judgement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import JsonValue

from persona_steering.backends.base import Backend, ProgressCallback, Request, Sampling, conversation, no_progress
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.estimate import Work
from persona_steering.engine.judging import chosen_judge, judge_kind, open_rater
from persona_steering.engine.steering import SteeringEngine
from persona_steering.errors import RecipeError, UsageError
from persona_steering.evaluation.answers_file import AnswerRow, write_answers
from persona_steering.evaluation.evaluated import Evaluated, evaluated_report, summary
from persona_steering.evaluation.ratings import PHASE as JUDGING
from persona_steering.evaluation.ratings import RUBRICS, Rater, Rating, Spoken
from persona_steering.evaluation.rollouts import (
    RolloutSettings,
    Side,
    Split,
    plan_rollouts,
    questions_of,
    request_for,
    system_prompt,
)
from persona_steering.extraction.run import Run, answer_seed
from persona_steering.files import write_atomically
from persona_steering.interventions import Add, Recipe, Scope
from persona_steering.personas import Trait, find_trait, load_trait
from persona_steering.personas.manager import PersonaManager

ROLLOUTS = "rollouts"
OWN = "own"
OWN_QUESTIONS = 12  # whose answers, plain and under both sides, define the coherence scale
CONDITIONS = 3  # plain, positive and negative: how often the likelihood rater scores an answer
REPORT = "report.html"


@dataclass(frozen=True)
class Steered:
    """What steers: a blend of stored names, or one vector at one layer with a coefficient of its raw direction."""

    blend: tuple[tuple[str, float], ...] = ()
    vector: str | None = None
    layer: int | None = None
    coefficient: float | None = None
    scope: str = "response"

    def __post_init__(self) -> None:
        one = (self.vector, self.layer, self.coefficient)
        if self.blend and self.vector is not None:
            raise UsageError("a blend and a vector were both given.", hint="Give one of them.")
        if any(value is None for value in one) and any(value is not None for value in one):
            raise UsageError(
                "a vector, its layer and its coefficient belong together.", hint="Give --vector V --layer K --coef C."
            )
        if self.vector is None and self.scope != "response":
            raise UsageError("a scope was given without a vector.", hint="Give --vector V --layer K --coef C.")

    def recipe(self, engine: SteeringEngine) -> Recipe:
        """What a request carries. Raises as the manager and the engine; RecipeError for a layer that is not there."""
        if self.vector is None or self.layer is None or self.coefficient is None:
            return engine.steering(dict(self.blend)).recipe if self.blend else Recipe()
        model = engine.model.identity
        if not 0 <= self.layer < model.num_layers:
            raise RecipeError(
                f"the model has no layer {self.layer}.",
                hint=f"Its layers are 0 to {model.num_layers - 1}; row k of a persona_vectors file is layer k-1.",
            )
        found = engine.manager.find_vector(self.vector)
        found.check_model(model)
        return Recipe((Add(vector=found, values={self.layer: self.coefficient}, scope=Scope.parse(self.scope)),))


@dataclass(frozen=True)
class Evaluating:
    """What is to be asked and rated. `judge` None takes the configured one, else likelihood."""

    trait: str
    out: Path
    settings: RolloutSettings
    steered: Steered = Steered()
    judge: str | None = None
    overwrite: bool = False

    @property
    def judgements(self) -> Path:
        """The file beside the CSV: what was asked, and why a score is not there."""
        return self.out.with_name(f"{self.out.stem}.judgements.json")


class Evaluation:
    """One evaluation, planned: whatever can be refused without a model is refused here.

    Raises NotFoundError or UsageError.
    """

    def __init__(self, asked: Evaluating, config: Config) -> None:
        self.asked, self._config = asked, config
        self.judge = chosen_judge(asked.judge, config)
        self.trait = read_trait(asked.trait, asked.settings.split)
        self.rollouts = plan_rollouts(self.trait, asked.settings)
        if asked.out.suffix.lower() != ".csv":
            raise UsageError(f"{asked.out.name!r} is no .csv file.", hint="Give --out a name that ends in .csv.")
        if asked.out.is_dir():
            raise UsageError(f"{asked.out} is a folder.", hint="Give --out the name of a file.")
        if asked.out.exists() and not asked.overwrite and not asked.judgements.exists():
            raise _taken(asked.out)

    def work(self) -> list[Work]:
        """The phases, as if nothing were on disk yet."""
        tokens, count = self.asked.settings.max_new_tokens, len(self.rollouts)
        work = [Work(ROLLOUTS, count, tokens, captured=False)]
        kind = judge_kind(self.judge)
        if kind == "likelihood":
            own = CONDITIONS * len(self._own_questions())
            work.append(Work(OWN, own, tokens, CONDITIONS * own, captured=False))
            work.append(Work(JUDGING, 0, 0, CONDITIONS * count, captured=False))
        elif kind == "local":
            work.append(Work(JUDGING, 0, 0, RUBRICS * count, captured=False))
        return work

    @property
    def judge_calls(self) -> int:
        """Judgements to be asked of a server, at most, besides one to find out how it answers."""
        return RUBRICS * len(self.rollouts) if judge_kind(self.judge) == "openai" else 0

    def run(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        *,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> Evaluated:
        """Answers, then rates. Raises what the backend and the judge raise; what was done by then is kept."""
        manager.bind(model.identity)
        recipe = self.asked.steered.recipe(SteeringEngine(model, manager, self._config))
        plan = self._plan(model, recipe)
        self._check_target(plan)
        run = Run(self._folder("eval", plan), plan)
        rater = open_rater(
            self.judge,
            self.trait,
            self._config,
            backend=model.backend,
            own=lambda: self._own_answers(model, progress, cancelled),
        )
        with_recipe = [request_for(rollout, recipe, self.asked.settings) for rollout in self.rollouts]
        answered = run.answers(model.backend, with_recipe, phase=ROLLOUTS, progress=progress, cancelled=cancelled)
        texts = [answer.text for answer in answered]
        self._write(model.backend, texts, None, plan, rater)
        ratings = rater.rate(self._spoken(texts), progress=progress, cancelled=cancelled) if rater else None
        self._write(model.backend, texts, ratings, plan, rater)
        found = self._evaluated(model, recipe, ratings, rater, run)
        evaluated_report(found, self.rollouts, texts, ratings).write(found.report)
        return found

    def _plan(self, model: ModelWrapper, recipe: Recipe) -> dict[str, JsonValue]:
        return {
            "name": self.trait.name,
            "model": model.identity.model_dump(mode="json"),
            "trait": self.trait.model_dump(mode="json"),
            "settings": self.asked.settings.model_dump(mode="json"),
            "recipe": recipe.to_list(),
        }

    def _folder(self, kind: str, plan: dict[str, JsonValue]) -> Path:
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
        return self._config.runs_dir / f"{kind}-{self.trait.name}-{digest}"

    def _check_target(self, plan: dict[str, JsonValue]) -> None:
        """Raises UsageError where the files there were made by another command."""
        if self.asked.overwrite or not self.asked.out.exists():
            return
        try:
            made_by = json.loads(self.asked.judgements.read_text())["plan"]
        except (OSError, ValueError, KeyError, TypeError):
            made_by = None
        if made_by != json.loads(json.dumps(plan)):
            raise _taken(self.asked.out)

    def _own_questions(self) -> Sequence[str]:
        return questions_of(self.trait, self.asked.settings)[:OWN_QUESTIONS]

    def _own_answers(
        self, model: ModelWrapper, progress: ProgressCallback, cancelled: Callable[[], bool] | None
    ) -> list[Spoken]:
        """Plain and instructed answers of the unsteered model, the same for every evaluation of the split."""
        settings = self.asked.settings.model_copy(
            update={"side": None, "assistant_name": None, "n_per_question": 1, "temperature": 1.0}
        )
        asked: list[tuple[Request, str, str, str]] = []
        for i, question in enumerate(self._own_questions()):
            pair = self.trait.pairs[i % len(self.trait.pairs)]
            positive, negative = (system_prompt(self.trait, pair, side, settings) for side in get_args(Side))
            for system in (None, positive, negative):
                seed = answer_seed(settings.seed, OWN, i, system)
                sampling = Sampling(temperature=1, max_new_tokens=settings.max_new_tokens, seed=seed)
                request = Request(conversation(question, system), sampling=sampling)
                asked.append((request, question, positive, negative))
        plan: dict[str, JsonValue] = {
            "name": f"own answers for {self.trait.name}",
            "model": model.identity.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
        }
        requests = [request for request, *_ in asked]
        run = Run(self._folder("eval-own", plan), plan)
        answers = run.answers(model.backend, requests, phase=OWN, progress=progress, cancelled=cancelled)
        return [
            Spoken(question, answer.text, positive, negative)
            for (_, question, positive, negative), answer in zip(asked, answers, strict=True)
        ]

    def _spoken(self, texts: Sequence[str]) -> list[Spoken]:
        trait, settings = self.trait, self.asked.settings
        return [
            Spoken(
                rollout.question,
                text,
                system_prompt(trait, trait.pairs[rollout.pair], "pos", settings),
                system_prompt(trait, trait.pairs[rollout.pair], "neg", settings),
            )
            for rollout, text in zip(self.rollouts, texts, strict=True)
        ]

    def _write(
        self,
        backend: Backend,
        texts: Sequence[str],
        ratings: Sequence[Rating] | None,
        plan: dict[str, JsonValue],
        rater: Rater | None,
    ) -> None:
        """Both files. Without ratings only what is not there yet, so that scores are never lost to a failing judge."""
        if ratings is None and rater is not None and self.asked.out.exists() and not self.asked.overwrite:
            return
        scores = [(rating.trait.score, rating.coherence.score) for rating in ratings or ()]
        rows = [
            AnswerRow(
                rollout.question,
                backend.render(rollout.messages),
                text,
                rollout.question_id,
                *(scores[i] if scores else (None, None)),
            )
            for i, (rollout, text) in enumerate(zip(self.rollouts, texts, strict=True))
        ]
        said: list[JsonValue] = [
            {kind: getattr(rating, kind).model_dump(mode="json") for kind in ("trait", "coherence")}
            for rating in ratings or ()
        ]
        beside: dict[str, JsonValue] = {
            "plan": plan,
            "judge": rater.id if rater else None,
            "judge_settings": rater.settings if rater else {},
            "remarks": list(rater.remarks) if rater else [],
            "judgements": said,
        }
        # the judgements first: a CSV without them would look like somebody else's
        write_atomically(self.asked.judgements, json.dumps(beside, ensure_ascii=False, indent=1).encode())
        write_answers(self.asked.out, self.trait.name, rows)

    def _evaluated(
        self,
        model: ModelWrapper,
        recipe: Recipe,
        ratings: Sequence[Rating] | None,
        rater: Rater | None,
        run: Run,
    ) -> Evaluated:
        questions = [rollout.question for rollout in self.rollouts]
        settings = self.asked.settings
        return Evaluated(
            file=self.asked.out,
            judgements=self.asked.judgements,
            report=run.folder / REPORT,
            run=run.folder,
            model=model.identity.id,
            trait=self.trait.name,
            split=settings.split,
            side=settings.side,
            answers=len(self.rollouts),
            questions=len(set(questions)),
            recipe=recipe.to_list(),
            judge=rater.id if rater else None,
            remarks=rater.remarks if rater else (),
            trait_score=summary(questions, [rating.trait for rating in ratings]) if ratings else None,
            coherence=summary(questions, [rating.coherence for rating in ratings]) if ratings else None,
        )


def read_trait(subject: str, split: Split) -> Trait:
    """A trait of the library, or of a file; a published .json holds one split, whichever is asked for.

    Raises as `find_trait`.
    """
    if Path(subject).suffix.lower() != ".json":
        return find_trait(subject)
    trait = load_trait(subject)
    if split == "extract":
        return trait
    return trait.model_copy(update={"questions": (), "evaluation_questions": trait.questions})


def _taken(path: Path) -> UsageError:
    return UsageError(
        f"{path} is there already, and another command has made it.",
        hint="Give another --out, or replace it with --overwrite.",
    )
