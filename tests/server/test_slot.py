"""The place of the one model: loaded, exchanged and freed while answers are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.server.api import make_state, until

from persona_steering.backends.base import Completion, Request, Sampling, conversation
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.errors import BusyError, ConflictError, ModelError, NotFoundError
from persona_steering.server.errors import ApiError
from persona_steering.server.model.scheduler import AnswerFacts
from persona_steering.server.model.slot import ModelChoice, ModelSlot, SlotStatus
from persona_steering.server.state import ServerState

LONG = 60  # seconds; nothing here takes as long, and a test that hangs fails
ENDLESS = Request(conversation("hello"), sampling=Sampling(max_new_tokens=1500))
SHORT = Request(conversation("hello"), sampling=Sampling(max_new_tokens=4))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[ServerState]:
    made = make_state(tmp_path)
    made.start()
    yield made
    made.close()


@pytest.fixture
def slot(state: ServerState) -> ModelSlot:
    return state.slot


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds whatever loads a model until it is set."""
    gate = threading.Event()
    loading: Callable[[ModelWrapper], object] = ModelWrapper.identity.fget  # type: ignore[attr-defined]

    def wait(model: ModelWrapper) -> object:
        assert gate.wait(LONG)
        return loading(model)

    monkeypatch.setattr(ModelWrapper, "identity", property(wait))
    yield gate
    gate.set()


def begun(slot: ModelSlot, choice: ModelChoice | None = None) -> threading.Event:
    """Begins to load; the event is set when that has ended."""
    done = threading.Event()
    slot.begin_loading(choice, done=done.set)
    return done


def test_a_model_is_freed_and_loaded_again(slot: ModelSlot) -> None:
    told: list[SlotStatus] = []
    slot.listen(told.append)
    before = slot.open_backend().identity
    slot.unload()
    assert (slot.status.state, slot.status.model) == ("empty", None)
    slot.load()
    assert slot.open_backend().identity == before
    assert [status.state for status in told] == ["empty", "loading", "ready"]
    *_, answer = slot.serving.scheduler.submit(SHORT)
    assert isinstance(answer, Completion)


def test_freeing_what_is_not_there_is_harmless(slot: ModelSlot) -> None:
    slot.unload()
    slot.unload()
    assert slot.status.state == "empty"


def test_answers_of_a_model_that_goes_end_with_an_error_that_says_so(slot: ModelSlot) -> None:
    ended: list[AnswerFacts] = []
    slot.listen_to_answers(ended.append)
    scheduler = slot.serving.scheduler
    answer = iter(scheduler.submit(ENDLESS))
    next(answer)
    slot.unload()
    with pytest.raises(ApiError, match="unloaded while it answered") as gone:
        list(answer)
    assert (gone.value.status, gone.value.code) == (503, "model_unloaded")
    with pytest.raises(ApiError, match="unloaded"):
        scheduler.submit(SHORT)
    assert [(one.ending, one.steered, one.tokens > 0) for one in ended] == [("error", False, True)]


def test_a_model_is_not_freed_while_somebody_computes_with_it(slot: ModelSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()
    monkeypatch.setattr(ModelWrapper, "close", lambda model: closed.set())
    going = threading.Thread(target=slot.unload)
    with slot.lease() as (_, backend):
        going.start()
        until(lambda: slot.status.state == "unloading")
        with pytest.raises(ApiError, match="no model is loaded"), slot.lease():
            pass
        assert not closed.wait(0.2)
        assert backend.generate([SHORT])[0].tokens > 0
    going.join(LONG)
    assert closed.is_set() and slot.status.state == "empty"


def test_while_a_model_is_on_its_way_everybody_is_told_to_come_back(slot: ModelSlot, held: threading.Event) -> None:
    done = begun(slot)
    assert slot.status.state == "loading"
    with pytest.raises(ApiError) as early:
        _ = slot.serving
    assert (early.value.status, early.value.code) == (503, "model_loading")
    assert int(early.value.headers["retry-after"]) > 0
    with pytest.raises(BusyError, match="being loaded"):
        slot.open_backend()
    with pytest.raises(BusyError, match="being loaded"), slot.turn():
        pass
    with pytest.raises(ConflictError, match="being loaded or unloaded"):
        slot.begin_loading()
    with pytest.raises(ConflictError):
        slot.unload()
    held.set()
    assert done.wait(LONG)
    assert slot.status.state == "ready"


def test_a_model_that_cannot_be_loaded_leaves_the_place_empty_and_says_why(slot: ModelSlot, tmp_path: Path) -> None:
    missing = tmp_path / "secret" / "missing"
    with pytest.raises(ModelError):
        slot.load(ModelChoice(name=f"hf:{missing}"))
    status = slot.status
    assert status.state == "empty"
    assert status.error is not None and "'missing'" in status.error and str(tmp_path) not in status.error
    slot.load()
    assert (slot.status.state, slot.status.error) == ("ready", None)


def test_a_load_that_breaks_the_library_leaves_the_place_empty_too(
    slot: ModelSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(model: ModelWrapper) -> object:
        raise KeyError("/secret/place")

    monkeypatch.setattr(ModelWrapper, "identity", property(break_off))
    assert begun(slot).wait(LONG)
    assert (slot.status.state, "KeyError" in str(slot.status.error)) == ("empty", True)
    assert "secret" not in str(slot.status.error)
    monkeypatch.undo()
    slot.load()
    assert slot.status.state == "ready"


def test_the_jobs_begin_once_also_where_the_server_and_its_model_are_ready_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state(tmp_path)
    begun: list[None] = []

    def start() -> None:
        time.sleep(0.1)
        begun.append(None)

    monkeypatch.setattr(state.jobs, "start", start)
    threads = [threading.Thread(target=state._on_model, args=(state.slot.status,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state.close()
    assert len(begun) == 1


def test_an_unknown_engine_is_refused_with_those_there_are(slot: ModelSlot) -> None:
    with pytest.raises(NotFoundError, match="nonsense"):
        slot.load(ModelChoice(name="nonsense:model"))


def test_no_model_is_exchanged_while_jobs_want_it(state: ServerState) -> None:
    job = state.jobs.store.add("sweep", {})
    for change in (state.unload_model, lambda: state.load_model(ModelChoice(name="embedded"))):
        with pytest.raises(ConflictError, match=job.id):
            change()
    assert state.slot.status.state == "ready"
    state.jobs.cancel(job.id)
    state.unload_model()
    assert state.slot.status.state == "empty"


def test_a_slot_that_is_closed_in_the_middle_of_a_load_does_not_wait_for_it(
    state: ServerState, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_steering.server.model.slot.CLOSING", 0.01)
    done = begun(state.slot)
    state.slot.close()
    assert not done.is_set()
    held.set()
    assert done.wait(LONG)
