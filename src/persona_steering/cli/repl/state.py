"""`Chat`: what a running chat remembers. A change that fails leaves it as it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from persona_steering.backends.base import Sampling
from persona_steering.engine.conversation import Conversation
from persona_steering.errors import PersonaSteeringError, UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persona_steering.cli.context import Session
    from persona_steering.config.schema import GenerationConfig
    from persona_steering.engine.service import Plan, SteeringService


@dataclass
class Chat:
    """One chat: with whom, steered how, and what was said. Make it with `open_chat`."""

    session: Session
    service: SteeringService
    conversation: Conversation
    generation: GenerationConfig
    safety: bool
    plan: Plan
    compare: bool = False
    tokens_per_second: float | None = None  # of the last answer
    saved: set[Path] = field(default_factory=set)  # files that this chat wrote, and may write again
    leaving: bool = False

    def steer(self, blend: Mapping[str, float], *, safety: bool | None = None) -> None:
        """Steers with another blend from the next answer on, and says its warnings. Raises as `service.plan`."""
        from persona_steering.cli.render import warn

        safe = self.safety if safety is None else safety
        self.plan = self.service.plan({name: weight for name, weight in blend.items() if weight}, safety=safe)
        self.safety = safe
        for text in self.plan.warnings:
            warn(text)

    def set(self, key: str, value: str) -> None:
        """Changes a setting of the sampling, as `config` knows it. Raises UsageError."""
        from pydantic import ValidationError

        fields = type(self.generation).model_fields
        if key not in fields:
            raise UsageError(f"unknown setting {key!r}.", hint=nearest(key, fields))
        given = None if value.lower() in ("none", "null", "random") else value
        try:
            self.generation = type(self.generation).model_validate(self.generation.model_dump() | {key: given})
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise UsageError(
                f"{key} cannot be {value!r}: {reason}.", hint=f"{key}: {fields[key].description}."
            ) from error

    def sampling(self) -> Sampling:
        """How the next answer is sampled; with a fresh seed unless one is set."""
        return Sampling.configured(self.generation)

    @property
    def prompt(self) -> str:
        """What stands before the user's line: the recipe and its strengths."""
        parts = [f"{name} {_number(weight)}" for name, weight in self.plan.blend.items()]
        return f"{' · '.join(parts) or 'base'} ❯ "

    @property
    def status_line(self) -> str:
        """What stands below the user's line: model, seed, speed and context."""
        info, seed = self.service.model, self.generation.seed
        parts = [
            info.id.rstrip("/").rpartition("/")[2][:32],
            "random seed" if seed is None else f"seed {seed}",
            "" if self.tokens_per_second is None else f"{self.tokens_per_second:.1f} tokens/s",
            f"context {self.conversation.used_tokens}" + (f"/{info.context_length}" if info.context_length else ""),
            "" if self.safety else "safety off",
            "compare" if self.compare else "",
        ]
        return " · ".join(part for part in parts if part)


def open_chat(session: Session) -> Chat:
    """A chat as the command's options say. A model that is loaded here gets what the workspace's preload list names."""
    blend = session.blend()
    service = session.service
    safety = session.config.steering.safety
    conversation = Conversation(model=service.model.id, system=session.system)
    base = service.plan({})
    chat = Chat(session, service, conversation, session.config.generation, safety, base)
    if session.joined is None:
        preload(chat)
    chat.steer(blend)
    return chat


def preload(chat: Chat) -> None:
    """Takes into memory what the workspace's preload list names. What cannot be loaded is said."""
    from persona_steering.cli.render import warn
    from persona_steering.personas.preload import PreloadList

    identity = chat.service.model.identity
    if identity is None:
        return
    for name in PreloadList(chat.session.config.workspace).names(identity):
        try:
            chat.service.load(name)
        except PersonaSteeringError as error:
            warn(f"{name!r} of the preload list was not loaded: {error}")


def _number(weight: float) -> str:
    return f"{weight:g}".replace("-", "−")
