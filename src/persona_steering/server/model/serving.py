"""One model as the server has it: its names, what can steer it, and the thread that writes its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from persona_steering.backends.base import Request
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.calibration.caps import Cap
from persona_steering.config import Config
from persona_steering.engine.names import public_id
from persona_steering.engine.steering import Steering, SteeringEngine
from persona_steering.errors import NotFoundError, PersonaSteeringError, UsageError, nearest
from persona_steering.interventions import Floor, parse_strength
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.errors import ApiError, as_api_error
from persona_steering.server.limits import LIMITS
from persona_steering.server.model.scheduler import ROWS, WAITING, AnswerFacts, Item, Scheduler, Ticket, stopping
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.card import Card, make_cards
from persona_steering.vectors.vector import check_name

ALIAS = "persona-steer"  # whatever model is loaded
PRESET = "preset/"  # before the name of a preset in a model id
DEADLINE = LIMITS.answer_seconds


class Serving:
    """Answers of one model for any number of threads. `start` it, and `close` it before the model."""

    def __init__(
        self,
        model: ModelWrapper,
        manager: PersonaManager,
        config: Config,
        *,
        rows: int = ROWS,
        waiting: int = WAITING,
        deadline: float = DEADLINE,
        on_end: Callable[[AnswerFacts], None] = lambda facts: None,
    ) -> None:
        manager.bind(model.identity)
        self.config, self.manager, self.started = config, manager, int(time.time())
        self._engine = SteeringEngine(model, manager, config)
        self._vectors = threading.Lock()  # the manager's memory is for one thread at a time
        self._deadline = deadline
        self.scheduler = Scheduler(model.backend, rows=rows, waiting=waiting, on_end=on_end)
        self._given_id = model.backend.info.id
        self.model_id = public_id(self._given_id)
        self._closed = False

    def start(self) -> None:
        """Begins to write answers."""
        self.scheduler.start()

    def close(self, *, because: Callable[[], PersonaSteeringError] = stopping) -> None:
        """Ends every answer with the error that `because` makes, and waits for the thread."""
        self._closed = True
        self.scheduler.close(because=because)

    @property
    def is_ready(self) -> bool:
        return not self._closed

    def ready_personas(self) -> list[Card]:
        """Those that were measured to steer this model, by name."""
        with self._vectors:
            cards = make_cards(self.manager.entries(), self.manager.model, safety=self.config.steering.safety)
        return sorted((c for c in cards if c.kind == "persona" and c.status == "ready"), key=lambda card: card.name)

    def variant_of(self, model: str) -> tuple[str | None, float | None]:
        """What a model id steers with: a persona or trait with its strength, a preset (without), or nothing.

        The longest id that fits counts, since ids may hold colons. Raises ApiError: 404 for an unknown one.
        """
        for base in sorted({self.model_id, self._given_id, ALIAS}, key=len, reverse=True):
            if model == base:
                return None, None
            if model.startswith(f"{base}:"):
                suffix = model.removeprefix(f"{base}:")
                if suffix.startswith(PRESET):
                    return suffix.removeprefix(PRESET), None
                return self._of_suffix(model, suffix)
        raise ApiError(
            404,
            "not_found_error",
            "model_not_found",
            f"unknown model {model!r}.",
            param="model",
            hint=f"This server has {self.model_id!r}, also as {ALIAS!r}; see GET /v1/models.",
        )

    def _of_suffix(self, model: str, suffix: str) -> tuple[str, float]:
        name, at, number = suffix.partition("@")
        try:
            with self._vectors:
                self.manager.kind_of(check_name(name))
        except (NotFoundError, UsageError):
            raise ApiError(
                404,
                "not_found_error",
                "model_not_found",
                f"unknown model {model!r}: there is no persona or trait {name!r}.",
                param="model",
                hint=nearest(name, self.names()),
            ) from None
        try:
            return name, parse_strength(number) if at else self._engine.default_strength
        except UsageError as error:
            raise as_api_error(error, param="model") from None

    def names(self) -> list[str]:
        """The personas and traits there are."""
        with self._vectors:
            return self.manager.list_available()

    def kind_of(self, name: str) -> str:
        """Whether a name is a persona or a trait. Raises NotFoundError or ModelMismatchError."""
        with self._vectors:
            return self.manager.kind_of(name)

    @property
    def num_layers(self) -> int:
        return self.manager.model.num_layers

    def find_axis(self, name: str) -> SteeringVector:
        """Any vector that a projection can be taken on. Raises ApiError: 404 with the nearest names."""
        check_name(name)
        with self._vectors:
            try:
                return self.manager.find_vector(name)
            except NotFoundError:
                known = [one.name for one in self.manager.entries() if one.metadata and one.metadata.kind != "baseline"]
        raise ApiError(
            404,
            "not_found_error",
            "axis_not_found",
            f"unknown axis {name!r}.",
            param="steering",
            hint=f"{nearest(name, known)} Make the axes with: persona-steer extract-axes".strip(),
        )

    def reading(self, name: str) -> tuple[SteeringVector, int]:
        """A vector to read projections on, and the layer to read them at. Raises as `find_axis`."""
        vector = self.find_axis(name)
        return vector, self._engine.reading_layer(vector)

    def steering(
        self,
        blend: Mapping[str, float],
        *,
        safety: bool | None,
        layers: Mapping[str, Sequence[int]],
        caps: Sequence[Cap] = (),
    ) -> Steering:
        """The recipe of a blend. Raises as `SteeringEngine.steering`; ApiError where the safety axis is missing."""
        safe = self.config.steering.safety if safety is None else safety
        with self._vectors:
            for name in blend:
                self.manager.kind_of(name)
            if safe and any(blend.values()) and not self.manager.has_safety_axis():
                raise ApiError(
                    400,
                    "invalid_request_error",
                    "safety_axis_missing",
                    "the model has no safety axis yet, so it cannot be steered safely.",
                    param="steering.safety",
                    hint='Make it with: persona-steer extract-axes safety. Or send "safety": false.',
                )
            return self._engine.steering(blend, safety=safety, layers=layers, caps=caps)

    def safety_floor(self) -> Floor:
        """The floor of safety as it is configured. Raises NotFoundError where the model has no safety axis."""
        with self._vectors:
            return self._engine.safety_floor()

    def loaded(self) -> list[str]:
        """The personas and traits in memory."""
        with self._vectors:
            return self.manager.list_loaded()

    def load(self, name: str) -> None:
        """Takes a persona or trait into memory. Raises NotFoundError with the nearest names."""
        with self._vectors:
            self.manager.load(check_name(name))

    def unload(self, name: str) -> None:
        """Drops one from memory; the next answer that wants it reads it again. Raises NotFoundError."""
        with self._vectors:
            self.manager.unload(check_name(name))

    def submit(self, request: Request, hear: Callable[[Item], None]) -> Ticket:
        """Queues a request; its items go to `hear`, in the thread that writes. Raises as `Scheduler.submit`."""
        return self.scheduler.submit(request, timeout=self._deadline, hear=hear)


def created(card: Card, otherwise: int) -> int:
    """When a vector was made, in seconds since 1970."""
    try:
        return int(datetime.fromisoformat(card.metadata.created).timestamp()) if card.metadata else otherwise
    except ValueError:
        return otherwise
