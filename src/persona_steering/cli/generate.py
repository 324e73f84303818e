"""`generate`: one prompt, one answer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from persona_steering.cli.context import (
    Session,
    answer_options,
    joining_options,
    json_option,
    model_options,
    pass_session,
)
from persona_steering.errors import CancelledError, PromptError

if TYPE_CHECKING:
    from persona_steering.backends.base import Completion, Sampling
    from persona_steering.engine.service import Plan

MAX_PROMPT = 10_000_000  # characters; more than any context holds


@click.command()
@click.argument("prompt")
@answer_options
@json_option
@joining_options
@model_options
@pass_session
def generate(session: Session, prompt: str) -> None:
    """Answer PROMPT; "-" reads it from stdin. Without a persona or blend the model answers as it is.

    \b
    Examples:
      persona-steer generate "What is courage?" --persona sage --strength 0.8
      persona-steer generate "Plan my day." --blend sage:0.5,pirate:0.4 --seed 7
      cat question.txt | persona-steer generate - --persona sage --json
    """
    answer_once(session, read_stdin() if prompt == "-" else prompt)


def read_stdin() -> str:
    """The prompt that stdin holds. Raises PromptError when it is endless or not text."""
    from persona_steering.cli.render import note

    if sys.stdin.isatty():
        note("Write the prompt, then press Ctrl-D.")
    try:
        text = sys.stdin.read(MAX_PROMPT + 1).strip()
    except UnicodeDecodeError as error:
        raise PromptError("stdin is not UTF-8 text.", hint="Convert it, for instance with iconv.") from error
    if len(text) > MAX_PROMPT:
        raise PromptError(f"stdin holds more than {MAX_PROMPT} characters.", hint="Give a shorter prompt.")
    return text


def answer_once(session: Session, prompt: str) -> None:
    """Answers one prompt as the session says. After Ctrl-C the exit code is that of CancelledError."""
    from persona_steering.backends.base import Sampling, conversation
    from persona_steering.cli.interrupts import stoppable
    from persona_steering.cli.render import emit_json, note, stream_answer, warn

    messages = conversation(prompt, session.system)
    blend = session.blend()
    plan, sampling = session.service.plan(blend), Sampling.configured(session.config.generation)
    for text in plan.warnings:
        warn(text)
    with stoppable() as stopped:
        pieces = session.service.stream(messages, plan, sampling=sampling, cancelled=stopped)
        done = stream_answer(pieces, write=not session.as_json)
    if session.as_json:
        emit_json(answer_json(done, plan) | setting_json(session, sampling))
    else:
        note(" · ".join([plan.describe(), *outcome(done, sampling)]), quiet=session.quiet)
    if done.finish_reason == "cancelled":
        click.get_current_context().exit(CancelledError.exit_code)


def answer_json(done: Completion, plan: Plan) -> dict[str, object]:
    """An answer and what was applied, for scripts."""
    return {
        "text": done.text,
        "finish_reason": done.finish_reason,
        "tokens": done.tokens,
        "prompt_tokens": done.prompt_tokens,
        "blend": dict(plan.blend),
        "safety": plan.safety,
        "recipe": plan.recipe,
        "recipe_hash": done.recipe_hash,
        "warnings": list(plan.warnings),
        "caps_engaged": done.caps_engaged,
    }


def setting_json(session: Session, sampling: Sampling) -> dict[str, object]:
    """What else is needed to have the same answer again."""
    identity = session.service.model.identity
    return {
        "sampling": sampling.model_dump(mode="json"),
        "model": None if identity is None else identity.model_dump(mode="json"),
    }


def outcome(done: Completion, sampling: Sampling) -> list[str]:
    """How long an answer is, its seed, what bounds did and why it ended; for people."""
    parts = [] if done.tokens is None else [f"{done.tokens} tokens"]
    parts.append(f"seed {sampling.seed}")
    if done.caps_engaged:
        parts.append(f"safety floor acted {done.caps_engaged} times")
    if done.finish_reason == "length":
        parts.append("cut off at max_new_tokens")
    elif done.finish_reason == "cancelled":
        parts.append("stopped")
    return parts
