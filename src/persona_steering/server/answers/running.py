"""The answers that are being written under an id of their own, so that another request can change or end them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from persona_steering.server.answers.answering import Answers
from persona_steering.server.answers.shapes import Head
from persona_steering.server.answers.steering import Steered
from persona_steering.server.errors import ApiError
from persona_steering.server.schemas.openai import SteeringChange


@dataclass(frozen=True)
class Running:
    """One request's answers on their way."""

    head: Head
    answers: Answers

    def steer(self, steered: Steered) -> SteeringChange:
        """Gives them another recipe, and notes that. Blocks and raises as `Answers.steer`.

        Raises ApiError: 400 for other traces, which stay as they were asked for.
        """
        if steered.traces and steered.traces != self.head.steered.traces:
            raise ApiError(
                400,
                "invalid_request_error",
                "invalid_steering",
                "what is traced cannot be changed while an answer is written.",
                param="steering.trace",
                hint="Leave trace out, or ask again.",
            )
        change = SteeringChange(from_tokens=self.answers.steer(steered.recipe), steering=steered.echo())
        self.head.changes.append(change)
        return change


class RunningAnswers:
    """Those of a server, by id. For the thread of the event loop."""

    def __init__(self) -> None:
        self._found: dict[str, Running] = {}

    @contextmanager
    def holding(self, head: Head, answers: Answers) -> Iterator[None]:
        """Lets the answers be found until the block ends; then those that are still being written end too."""
        self._found[head.id] = Running(head, answers)
        try:
            with answers:
                yield
        finally:
            del self._found[head.id]

    def get(self, identifier: str) -> Running:
        """Raises ApiError: 404 for an answer that has ended, or never was."""
        if identifier not in self._found:
            raise ApiError(
                404,
                "not_found_error",
                "answer_not_found",
                f"no answer {identifier!r} is being written.",
                param="id",
                hint="It may have ended. The id is that of its first chunk.",
            )
        return self._found[identifier]
