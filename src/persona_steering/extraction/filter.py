"""Which answers are in character: those that their system prompt explains better than the contrast does."""

from __future__ import annotations

from collections.abc import Sequence

from persona_steering.backends.base import Backend, Text, conversation

MIN_GAIN = 0.0  # nats per token


def in_character(
    backend: Backend, asked: Sequence[tuple[str, str | None, str | None]], answers: Sequence[str]
) -> list[bool]:
    """For each (question, own system prompt, contrast system prompt) and its answer, whether to keep it.

    An answer is kept when log p(answer | own prompt) exceeds log p(answer | contrast) per token.
    """
    own = backend.score(
        [Text(conversation(q, system), text) for (q, system, _), text in zip(asked, answers, strict=True)]
    )
    contrast = backend.score(
        [Text(conversation(q, other), text) for (q, _, other), text in zip(asked, answers, strict=True)]
    )
    return [a.mean - b.mean > MIN_GAIN for a, b in zip(own, contrast, strict=True)]
