"""The place for the one model that is loaded: empty, loading, or ready with the thread that writes its answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import Field

from persona_steering.backends.base import Backend
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.names import public_id
from persona_steering.errors import BusyError, ConflictError, ModelError, PersonaSteeringError
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.errors import ApiError, without_paths
from persona_steering.server.model.scheduler import ROWS, WAITING, AnswerFacts
from persona_steering.server.model.serving import DEADLINE, Serving
from persona_steering.vectors.values import Closed

CLOSING = 1.0  # seconds that a change has to end by itself when the server stops
SlotState = Literal["empty", "loading", "ready", "unloading"]
_log = logging.getLogger(__name__)


class ModelChoice(Closed):
    """Which model, and how it is loaded."""

    name: str = Field(min_length=1, max_length=512, description="embedded, hf:OWNER/NAME, or the id of a listed model")
    quantization: Literal["4bit", "8bit"] | None = None
    revision: str | None = Field(default=None, max_length=256)


class SlotStatus(Closed):
    """What the slot holds. `error` says why the last load failed; it is None again once another is begun."""

    state: SlotState
    model: str | None = Field(description="the public id of what is there or on its way")
    error: str | None = None


class ModelSlot:
    """Holds one model at a time. Any thread may ask it; loading goes on in a thread of its own."""

    def __init__(self, config: Config, *, rows: int = ROWS, waiting: int = WAITING, deadline: float = DEADLINE) -> None:
        self._config = config
        self._rows, self._waiting, self._deadline = rows, waiting, deadline
        self._state: SlotState = "empty"
        self._wanted: str | None = None
        self._error: PersonaSteeringError | None = None
        self._model: ModelWrapper | None = None
        self._serving: Serving | None = None
        self._changed = threading.Condition()
        self._leases = 0  # those who compute with the model beside its answers
        self._changing = threading.Lock()  # held from the beginning of a change to its end
        self._listeners: list[Callable[[SlotStatus], None]] = []
        self._counters: list[Callable[[AnswerFacts], None]] = []

    def listen(self, listener: Callable[[SlotStatus], None]) -> None:
        """Has `listener` told of every change of state, in the thread that changes it."""
        self._listeners.append(listener)

    def listen_to_answers(self, counter: Callable[[AnswerFacts], None]) -> None:
        """Has `counter` called with what every answer has come to, of whatever model."""
        self._counters.append(counter)

    @property
    def status(self) -> SlotStatus:
        """A snapshot."""
        with self._changed:
            error = None if self._error is None else without_paths(str(self._error))
            return SlotStatus(state=self._state, model=self._wanted, error=error)

    @property
    def model_name(self) -> str | None:
        """The loaded model as its user named it, perhaps by a path; None where there is none."""
        with self._changed:
            return None if self._model is None else self._model.config.model.name

    @property
    def error(self) -> PersonaSteeringError | None:
        """Why the last load failed, with all that it says of the machine."""
        return self._error

    @property
    def serving(self) -> Serving:
        """The model's answers. Raises ApiError 503 where there is no model (yet)."""
        with self._changed:
            if self._state == "ready" and self._serving is not None:
                return self._serving
            raise _absent(self._state, self._wanted)

    def open_backend(self) -> Backend:
        """The loaded model, for jobs. Raises BusyError that says why there is none."""
        with self._changed:
            if self._state == "ready" and self._model is not None:
                return self._model.backend
            raise _not_there(self._state, self._wanted)

    @contextmanager
    def lease(self) -> Iterator[tuple[Serving, Backend]]:
        """The model, which is not freed before the block ends. Raises ApiError 503 where there is none (yet)."""
        with self._lent(_absent) as held:
            yield held

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The lane of the jobs: see `Scheduler.turn`. Raises BusyError where there is no model."""
        with self._lent(_not_there) as (serving, _), serving.scheduler.turn():
            yield

    @contextmanager
    def _lent(
        self, refusal: Callable[[SlotState, str | None], PersonaSteeringError]
    ) -> Iterator[tuple[Serving, Backend]]:
        with self._changed:
            if self._state != "ready" or self._serving is None or self._model is None:
                raise refusal(self._state, self._wanted)
            held = self._serving, self._model.backend
            self._leases += 1
        try:
            yield held
        finally:
            with self._changed:
                self._leases -= 1
                self._changed.notify_all()

    def load(self, choice: ModelChoice | None = None) -> None:
        """Loads a model in the place of the one that is there, whose answers end; None: the configured one.

        Returns when it is ready. Raises ConflictError while another change is under way, and what loading raises.
        """
        with self._one_change():
            self._exchange(choice)

    def begin_loading(self, choice: ModelChoice | None = None, *, done: Callable[[], None] | None = None) -> None:
        """As `load`, in a thread of its own; `done` is called in its end. What goes wrong is in `status`."""
        self._take_change()
        self._set("loading", wanted=self._name_of(choice))

        def work() -> None:
            try:
                self._exchange(choice)
            except PersonaSteeringError as error:
                _log.error("the model was not loaded: %s", error)
            finally:
                self._changing.release()
                if done is not None:
                    done()

        threading.Thread(target=work, name="loading", daemon=True).start()

    def unload(self) -> None:
        """Ends all answers and frees the model. Harmless where there is none. Raises ConflictError as `load`."""
        with self._one_change():
            self._empty()
            self._set("empty", wanted=None)

    def put(self, model: ModelWrapper, manager: PersonaManager) -> Serving:
        """Takes a model that is loaded already."""
        serving = Serving(
            model,
            manager,
            model.config,
            rows=self._rows,
            waiting=self._waiting,
            deadline=self._deadline,
            on_end=self._count,
        )
        serving.start()
        with self._changed:
            self._model, self._serving, self._error = model, serving, None
        self._set("ready", wanted=serving.model_id)
        return serving

    def end_answers(self) -> None:
        """Ends every answer, and takes no new ones of this model."""
        with self._changed:
            serving = self._serving
        if serving is not None:
            serving.close()

    def close(self) -> None:
        """Ends all answers and frees the model. A load that is under way is left to end with the process."""
        if self._changing.acquire(timeout=CLOSING):
            self._empty(patience=CLOSING)
            self._set("empty", wanted=None)
            self._changing.release()

    def _exchange(self, choice: ModelChoice | None) -> None:
        name = self._name_of(choice)
        try:
            self._set("loading", wanted=name)
            self._empty()
            config = _chosen(self._config, choice)
            model = ModelWrapper(config)
            self.put(
                model, PersonaManager(config, model=model.identity)
            )  # a remote model has no identity, and is refused
        except PersonaSteeringError as error:
            self._give_up(name, error)
            raise
        except Exception as error:  # whatever the model's library raises, nobody is to wait for this model any more
            _log.error("loading %r failed", name, exc_info=error)
            said = f"loading {name!r} failed with {type(error).__name__}."
            known = ModelError(said, hint="The server's log has the reason.")
            self._give_up(name, known)
            raise known from error

    def _give_up(self, name: str, error: PersonaSteeringError) -> None:
        self._empty()
        with self._changed:
            self._error = error
        self._set("empty", wanted=name)

    def _empty(self, patience: float | None = None) -> None:
        """Frees the model once nobody computes with it; where that takes longer than `patience` seconds, not at all."""
        with self._changed:
            model, serving = self._model, self._serving
            self._model = self._serving = None
            if self._state == "ready":
                self._state = "unloading"
        if serving is not None:
            serving.close(because=_gone)
        with self._changed:
            unused = self._changed.wait_for(lambda: self._leases == 0, patience)
        if model is not None and unused:
            model.close()

    def _count(self, facts: AnswerFacts) -> None:
        for counter in self._counters:
            counter(facts)

    def _set(self, state: SlotState, *, wanted: str | None) -> None:
        with self._changed:
            self._state, self._wanted = state, wanted
            if state == "loading":
                self._error = None
            self._changed.notify_all()
        status = self.status
        for listener in self._listeners:
            listener(status)

    def _name_of(self, choice: ModelChoice | None) -> str:
        return public_id(self._config.model.name if choice is None else choice.name)

    def _take_change(self) -> None:
        if not self._changing.acquire(blocking=False):
            raise ConflictError("a model is being loaded or unloaded.", hint="Wait until that is done.")

    @contextmanager
    def _one_change(self) -> Iterator[None]:
        self._take_change()
        try:
            yield
        finally:
            self._changing.release()


def _chosen(config: Config, choice: ModelChoice | None) -> Config:
    if choice is None:
        return config
    changes = {"name": choice.name, "quantization": choice.quantization, "revision": choice.revision}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _why(state: SlotState, wanted: str | None) -> tuple[str, str]:
    """Why there is no model, and what to do."""
    if state == "loading":
        return f"the model {wanted!r} is being loaded.", "Try again in a moment."
    return "no model is loaded.", "Load one: POST /api/v1/models/load"


def _gone() -> ApiError:
    """For those whose answers were being written."""
    return ApiError(
        503,
        "server_error",
        "model_unloaded",
        "the model was unloaded while it answered.",
        hint="Ask again once a model is there; GET /readyz says when.",
        headers={"retry-after": "2"},
    )


def _not_there(state: SlotState, wanted: str | None) -> BusyError:
    message, hint = _why(state, wanted)
    return BusyError(message, hint=hint)


def _absent(state: SlotState, wanted: str | None) -> ApiError:
    message, hint = _why(state, wanted)
    if state == "loading":
        return ApiError(503, "server_error", "model_loading", message, hint=hint, headers={"retry-after": "2"})
    return ApiError(503, "server_error", "no_model", message, hint=hint, headers={"x-should-retry": "false"})
