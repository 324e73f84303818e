"""One turn: a question goes to the service, and its answer into the conversation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from persona_steering.backends.base import Completion, Message, Sampling
from persona_steering.cli.generate import outcome
from persona_steering.cli.interrupts import stoppable
from persona_steering.cli.render import note, show_lanes, stream_answer, working
from persona_steering.engine.conversation import Turn
from persona_steering.errors import PromptError

if TYPE_CHECKING:
    from persona_steering.cli.repl.state import Chat


def answer(chat: Chat, question: str, *, again: bool = False) -> None:
    """Answers a question and keeps the turn; with `again` in the place of the last one.

    Where the answer fails or nothing of it was written, the conversation stays as it was.
    """
    talk = chat.conversation
    before = talk.without_last() if again else talk
    messages = before.messages(question)
    sampling = _sampling(chat, question, again=again)
    start = time.monotonic()
    try:
        base, done = _compared(chat, messages, sampling) if compares(chat) else _streamed(chat, messages, sampling)
    except PromptError as error:
        if before.turns:
            raise PromptError(
                error.message, hint="Shorten it; or /undo drops the last turn, /new starts over."
            ) from error
        raise
    tokens = (done.tokens or 0) + ((base.tokens or 0) if base else 0)
    chat.tokens_per_second = tokens / (time.monotonic() - start) if tokens else None
    if not done.text and done.finish_reason == "cancelled":
        note("Stopped before anything was written.")
        return
    turn = _turn(chat, question, sampling, done, base)
    talk.replace_last(turn) if again else talk.add(turn)
    note(" · ".join(outcome(done, sampling)), quiet=chat.session.quiet)


def compares(chat: Chat) -> bool:
    """Whether a turn is answered base and steered: only where something steers."""
    return chat.compare and bool(chat.plan.blend)


def _streamed(chat: Chat, messages: tuple[Message, ...], sampling: Sampling) -> tuple[Completion | None, Completion]:
    with stoppable() as stopped:
        return None, stream_answer(chat.service.stream(messages, chat.plan, sampling=sampling, cancelled=stopped))


def _compared(chat: Chat, messages: tuple[Message, ...], sampling: Sampling) -> tuple[Completion, Completion]:
    plans = [chat.service.plan({}), chat.plan]
    with stoppable() as stopped, working("Answering twice", quiet=chat.session.quiet):
        base, done = chat.service.answers(messages, plans, sampling=sampling, cancelled=stopped)
    show_lanes([(plan.describe(), lane.text) for plan, lane in zip(plans, (base, done), strict=True)])
    return base, done


def _sampling(chat: Chat, question: str, *, again: bool) -> Sampling:
    """As set; a repeated question takes the next seed where the set one would give the same answer again."""
    sampling = chat.sampling()
    if not again or chat.generation.seed is None:
        return sampling
    last = chat.conversation.last
    unchanged = last.question == question and last.recipe_hash == chat.plan.recipe_hash
    if unchanged and last.sampling.model_copy(update={"seed": sampling.seed}) == sampling:
        return sampling.model_copy(update={"seed": last.sampling.seed + 1})
    return sampling


def _turn(chat: Chat, question: str, sampling: Sampling, done: Completion, base: Completion | None) -> Turn:
    return Turn(
        question=question,
        answer=done.text,
        steering=chat.plan.describe(),
        safety=chat.plan.safety,
        recipe_hash=done.recipe_hash,
        sampling=sampling,
        prompt_tokens=done.prompt_tokens,
        tokens=done.tokens or 0,
        caps_engaged=done.caps_engaged,
        stopped=done.finish_reason == "cancelled",
        base=None if base is None else base.text,
    )
