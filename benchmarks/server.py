"""What the server costs over the engine, and what it gains by writing the answers of several clients together.

    python benchmarks/server.py
    python benchmarks/server.py --random-weights llama-7b --device cuda --dtype bfloat16 --tokens 128

One server in a thread of this process, asked over HTTP by clients in threads of their own. Every client asks under a
recipe of its own, and checks with every answer that this recipe was applied.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from steering import Recipes
from timing import Figure, describe, model_parser, open_backend, positive, ratio, report, take_turns

from persona_steering.backends.base import Completion, Message, Request, Sampling
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import get_config
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.app import create_app
from persona_steering.server.door.security import Door
from persona_steering.server.listening import listen, server_of, url_of
from persona_steering.server.model.slot import ModelSlot
from persona_steering.server.state import ServerState
from persona_steering.server.stores.database import Database, database_file

QUESTION = "How was your day, and what do you plan for tomorrow?"
SHORT = 4  # tokens of an answer where many are asked for
WARM_UP = 100  # requests before memory is looked at, or fewer where fewer are asked for
GROWTH = 1.02  # of the process' memory over the requests that follow
STREAM_TURNS = 4  # turns of the first-token figure for each of the others: they are short, and noisy


@dataclass(frozen=True)
class Timed:
    """One streamed answer: seconds to its first text, and to its end."""

    first: float
    whole: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    parser.add_argument("--clients", type=positive, default=16, help="that ask at once")
    parser.add_argument("--requests", type=positive, default=1000, help="one after another")
    options = parser.parse_args(arguments)
    with (
        open_backend(options) as backend,
        tempfile.TemporaryDirectory() as folder,
        serving(backend, Path(folder), clients=options.clients, rows=options.batch) as (url, state),
    ):
        asking = Asking(url, options.tokens)
        figures = [
            together(asking, repeats=options.repeats),
            *crowd(asking, clients=options.clients, repeats=options.repeats),
            overhead(asking, state, repeats=options.repeats),
            first_token(asking, repeats=STREAM_TURNS * options.repeats),
            memory(asking, requests=options.requests),
        ]
        report("server", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


@contextlib.contextmanager
def serving(
    backend: TransformersBackend, folder: Path, *, clients: int, rows: int
) -> Iterator[tuple[str, ServerState]]:
    """A server of the model and as many random personas as there are clients."""
    config = get_config(overrides={"paths.vectors": folder / "vectors", "paths.runs": folder / "runs"})
    manager, recipes = PersonaManager(config), Recipes(backend)
    for seed in range(clients):
        manager.store.save(recipes.vector(seed))
    slot = ModelSlot(config, rows=rows)
    slot.put(ModelWrapper(config, backend=backend), manager)
    state = ServerState(config, Database(database_file(folder)), slot)
    with listen("127.0.0.1", 0) as listening:
        server = server_of(create_app(state, Door.at("127.0.0.1")))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield url_of(listening), state
        finally:
            server.should_exit = True
            thread.join()


class Asking:
    """Asks the server for answers of `tokens` tokens."""

    def __init__(self, url: str, tokens: int) -> None:
        self.url, self.tokens = url, tokens

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=600)

    def body(self, persona: int | None, tokens: int | None = None, **more: object) -> dict[str, Any]:
        """A chat request, steered by one of the personas or not at all."""
        steering = None if persona is None else {"personas": {f"random-{persona}": 1.0}, "safety": False}
        return {
            "model": "persona-steer",
            "messages": [{"role": "user", "content": QUESTION}],
            "max_tokens": tokens or self.tokens,
            "temperature": 0,
            "seed": 0,
            "steering": steering,
            **more,
        }

    def whole(self, http: httpx2.Client, persona: int | None, tokens: int | None = None) -> float:
        """Seconds of one answer that comes at once."""
        start = time.perf_counter()
        reply = http.post("/v1/chat/completions", json=self.body(persona, tokens))
        seconds = time.perf_counter() - start
        answer = reply.json()
        check(reply.status_code == 200 and answer["usage"]["completion_tokens"] == (tokens or self.tokens), answer)
        check_steering(answer["steering"], persona)
        return seconds

    def streamed(self, http: httpx2.Client, persona: int | None, tokens: int | None = None) -> Timed:
        """One answer that comes as it is written."""
        start, first, steering = time.perf_counter(), 0.0, None
        with http.stream("POST", "/v1/chat/completions", json=self.body(persona, tokens, stream=True)) as reply:
            check(reply.status_code == 200, reply.status_code)
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                check("error" not in chunk, chunk)
                steering = steering or chunk.get("steering")
                if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - start
        check_steering(steering, persona)
        return Timed(first, time.perf_counter() - start)

    def at_once(self, personas: Sequence[int]) -> list[Timed]:
        """One streamed answer for each of several clients that ask at the same time."""
        ready = threading.Barrier(len(personas))

        def ask(persona: int) -> Timed:
            with self.client() as http:
                ready.wait()
                return self.streamed(http, persona)

        with ThreadPoolExecutor(len(personas)) as pool:
            return list(pool.map(ask, personas))


def check(holds: bool, found: object) -> None:
    if not holds:
        raise SystemExit(f"the server did not answer as it was asked: {found}")


def check_steering(echo: dict[str, Any] | None, persona: int | None) -> None:
    names = [one["name"] for one in echo["applied"]] if echo else []
    check(names == ([] if persona is None else [f"random-{persona}"]), echo)


def together(asking: Asking, *, repeats: int) -> Figure:
    """Tokens per second of two clients with two recipes, over those of one client."""

    def side(personas: Sequence[int]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            asking.at_once(personas)
            return len(personas) * asking.tokens / (time.perf_counter() - start)

        return run

    found = take_turns({"one": side([0]), "two": side([0, 1])}, repeats=repeats)
    details = {f"{name}_tokens_per_s": statistics.median(turns) for name, turns in found.items()}
    return ratio(
        "two clients with two recipes / one: tokens/s", found["two"], found["one"], target=1.5, details=details
    )


def crowd(asking: Asking, *, clients: int, repeats: int) -> list[Figure]:
    """How long many clients wait for their first token, and how equally they are served."""
    rounds = [asking.at_once(range(clients)) for _ in range(repeats + 1)][1:]  # the first is a warm-up
    firsts = sorted(one.first for turn in rounds for one in turn)
    slowest = [max(one.whole for one in turn) / min(one.whole for one in turn) for turn in rounds]
    spent = sum(max(one.whole for one in turn) for turn in rounds)
    details = {
        "answers": len(firsts),
        "errors": 0,  # the first one stops the benchmark
        "median_s": statistics.median(firsts),
        "slowest_s": firsts[-1],
        "tokens_per_s": len(firsts) * asking.tokens / spent,
    }
    late = firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))]
    return [
        Figure(f"{clients} clients: first token, 95th percentile", late, unit="s", details=details),
        Figure(
            f"{clients} clients: slowest answer / fastest",
            statistics.median(slowest),
            low=min(slowest),
            high=max(slowest),
        ),
    ]


def overhead(asking: Asking, state: ServerState, *, repeats: int) -> Figure:
    """Time of a whole answer over HTTP, over that of the same answer asked of the engine's own queue."""
    serving = state.slot.serving
    sampling = Sampling(temperature=0, max_new_tokens=asking.tokens)
    request = Request((Message("user", QUESTION),), sampling=sampling)

    def engine() -> float:
        start = time.perf_counter()
        *_, last = serving.scheduler.submit(request)
        seconds = time.perf_counter() - start
        check(isinstance(last, Completion) and len(last.token_ids) == asking.tokens, last)
        return seconds

    with asking.client() as http:
        found = take_turns({"http": lambda: asking.whole(http, None), "engine": engine}, repeats=repeats, warmups=2)
    details = {f"{name}_s": statistics.median(turns) for name, turns in found.items()}
    return ratio(
        "a whole answer: HTTP and JSON / engine",
        found["http"],
        found["engine"],
        target=1.05,
        at_most=True,
        details=details,
    )


def first_token(asking: Asking, *, repeats: int) -> Figure:
    """Time to the first text of a streamed answer, steered over unsteered."""
    with asking.client() as http:

        def side(persona: int | None) -> Callable[[], float]:
            return lambda: asking.streamed(http, persona, SHORT).first

        found = take_turns({"plain": side(None), "steered": side(0)}, repeats=repeats, warmups=2)
    details = {f"{name}_ms": 1000 * statistics.median(turns) for name, turns in found.items()}
    return ratio(
        "first token over HTTP: steered / unsteered",
        found["steered"],
        found["plain"],
        target=1.05,
        at_most=True,
        details=details,
    )


def memory(asking: Asking, *, requests: int) -> Figure:
    """The process' memory after many short answers, over that after the first ones."""
    process = psutil.Process()
    with asking.client() as http:
        for number in range(min(WARM_UP, requests)):
            asking.whole(http, number % 2, SHORT)
        before = process.memory_info().rss
        for number in range(requests):
            asking.whole(http, number % 2, SHORT)
        after = process.memory_info().rss
    details = {"before_mib": before / 2**20, "after_mib": after / 2**20}
    return Figure(
        f"memory after {requests} requests / before", after / before, target=GROWTH, at_most=True, details=details
    )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
