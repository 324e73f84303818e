"""A real server of a tiny model, on a free port, in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tests.backends.tiny import LAYERS, make_tokenizer, save_tiny, without_stops
from tests.cli.conftest import make_calibration, make_vector

from persona_steering.backends import load
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config, get_config
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.app import create_app
from persona_steering.server.door.security import Door
from persona_steering.server.listening import listen, server_of, url_of
from persona_steering.server.model.serving import DEADLINE, Serving
from persona_steering.server.model.slot import ModelSlot
from persona_steering.server.state import ServerState
from persona_steering.server.stores.database import Database, database_file

MODEL = "tiny:llama"  # a colon of its own, as other servers' tags have
ROWS, WAITING = 6, 2


@dataclass(frozen=True)
class Api:
    """Where a server is, and what is behind it."""

    url: str
    state: ServerState

    @property
    def serving(self) -> Serving:
        return self.state.slot.serving

    def client(self, **headers: str) -> httpx2.Client:
        """Plain HTTP, without what a library would add."""
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)

    def wait_until_idle(self) -> None:
        """Until no answer is being written. Fails after ten seconds."""
        for _ in range(1000):
            if not (self.serving.scheduler.load.writing or self.serving.scheduler.load.waiting):
                return
            time.sleep(0.01)
        raise AssertionError(f"still at work: {self.serving.scheduler.load}")


def until(holds: Callable[[], bool]) -> None:
    """Waits, ten seconds at most."""
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to hold")


def make_workspace(root: Path) -> tuple[Config, TransformersBackend, PersonaManager]:
    """A tiny model, and vectors of it: sage and pirate (ready), raw (not calibrated), the trait calm, a safety axis."""
    folder = save_tiny("llama", root / MODEL, tokenizer=make_tokenizer(byte_level=True), max_position_embeddings=2048)
    config = get_config(
        overrides={
            "model.name": f"hf:{folder}",
            "paths.vectors": root / "vectors",
            "paths.runs": root / "runs",
            "generation.max_new_tokens": 8,
        }
    )
    loaded = load(f"hf:{folder}", device="cpu", dtype="float32", cache=root / "cache")
    assert isinstance(loaded, TransformersBackend)
    backend = without_stops(loaded)
    manager = PersonaManager(config)
    for vector in (
        make_vector(backend.identity, "sage", calibration=make_calibration()),
        make_vector(backend.identity, "pirate", calibration=make_calibration()),
        make_vector(backend.identity, "raw"),
        make_vector(backend.identity, "calm", kind="trait", calibration=make_calibration()),
        make_vector(backend.identity, "safety", kind="axis", thresholds={"1": dict.fromkeys(range(LAYERS), -0.5)}),
    ):
        manager.store.save(vector)
    return config, backend, manager


def make_state(root: Path, *, deadline: float = DEADLINE) -> ServerState:
    """What serves `make_workspace`. `deadline` in seconds ends its answers."""
    config, backend, manager = make_workspace(root)
    slot = ModelSlot(config, rows=ROWS, waiting=WAITING, deadline=deadline)
    slot.put(ModelWrapper(config, backend=backend), manager)
    return ServerState(config, Database(database_file(root)), slot)


@contextlib.contextmanager
def running(state: ServerState, door: Door) -> Iterator[Api]:
    """The server, until the block ends."""
    with listen("127.0.0.1", 0) as listening:
        server = server_of(create_app(state, door))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():  # what a test does to the database is not to meet the start
            time.sleep(0.01)
        try:
            yield Api(url_of(listening), state)
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()
