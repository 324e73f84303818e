"""Who rates answers: a choice of words becomes a rater, opened late and only where it is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from persona_steering.backends.base import Backend
from persona_steering.config import Config
from persona_steering.engine.endpoints import SCHEME, connect_configured
from persona_steering.errors import UsageError, nearest
from persona_steering.evaluation.ratings import LikelihoodRater, Rater, RubricRater, Spoken
from persona_steering.personas import Trait
from persona_steering.scoring.judges import CachedJudge, Judge, LocalJudge

Kind = Literal["none", "likelihood", "local", "openai"]
CACHE = "judgements.sqlite"  # in the runs folder: every judgement that was ever paid for


def judge_kind(choice: str) -> Kind:
    """What a choice means: none, likelihood, local, or openai:URL#MODEL. Raises UsageError."""
    if choice in ("none", "likelihood", "local"):
        return choice  # type: ignore[return-value]
    if choice.startswith(SCHEME):
        return "openai"
    raise UsageError(
        f"{choice!r} is no judge.",
        hint=f"{nearest(choice, ['none', 'likelihood', 'local'])} Or write openai:URL#MODEL.".strip(),
    )


def chosen_judge(choice: str | None, config: Config) -> str:
    """The choice, else the configured server, else likelihood. Raises UsageError for one that is none."""
    if choice is None:
        configured = config.judge.base_url
        choice = f"{SCHEME}{configured}#{config.judge.model}" if configured else "likelihood"
    judge_kind(choice)
    return choice


def open_rater(
    choice: str, trait: Trait, config: Config, *, backend: Backend, own: Callable[[], Sequence[Spoken]]
) -> Rater | None:
    """The rater of a choice, with its judgements kept on disk; None for "none".

    `backend` is the loaded model, `own` gives some of its own answers, and is called for likelihood alone. Raises
    UsageError, and ConfigError where the key of the server that is meant is missing.
    """
    kind = judge_kind(choice)
    if kind == "none":
        return None
    if kind == "likelihood":
        return LikelihoodRater(backend, own())
    judge: Judge = LocalJudge(backend) if kind == "local" else remote_judge(choice, config)
    return RubricRater(CachedJudge(judge, cache_file(config)), trait)


def remote_judge(choice: str, config: Config) -> Judge:
    """The judge at openai:URL#MODEL. Raises UsageError or ConfigError."""
    from persona_steering.scoring.judges.remote import RemoteJudge, RemoteSettings  # brings the HTTP client

    asked = config.judge
    settings = RemoteSettings(
        samples=asked.samples, concurrency=asked.concurrency, max_calls=asked.max_calls, max_tokens=asked.max_tokens
    )
    return RemoteJudge(connect_configured(choice, asked, concurrency=asked.concurrency), settings)


def cache_file(config: Config) -> Path:
    """Where judgements are kept."""
    return config.runs_dir / CACHE
