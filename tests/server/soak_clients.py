"""Clients of nine kinds that ask one server at once, and check every answer that they get.

Each is a function that asks once; `Tally.keep_asking` repeats it until the time is up.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from websockets.sync.client import connect

Json = dict[str, Any]
PATIENCE = 0.02  # seconds before the next attempt where the queue is full
SEEDS = range(4)
TOKENS = 8
STEERINGS: tuple[Any, ...] = (
    None,
    "sage:0.6",
    {"personas": {"pirate": 1.0}},
    {"traits": {"calm": -0.4}},
    {"vectors": [{"name": "sage", "coefficient": 0.7, "layers": [0, 3]}]},
    {"personas": {"sage": 0.5}, "traits": {"calm": 0.3}, "safety": False},
)


@dataclass(frozen=True)
class Known:
    """What the engine alone answers under one steering and seed."""

    steering: Any
    seed: int
    text: str
    hash: str | None
    recipe: list[Any]

    def check(self, text: str, echo: Json | None) -> None:
        assert text == self.text, f"{self.steering} at seed {self.seed}: {text!r} instead of {self.text!r}"
        assert (echo and echo["hash"]) == self.hash, f"{self.steering} was answered under {echo}"
        assert echo is None or echo["recipe"] == self.recipe

    def body(self, model: str, **more: Any) -> Json:
        """A chat request for this answer."""
        ask = [{"role": "user", "content": "hello"}]
        return {"model": model, "messages": ask, "seed": self.seed, "steering": self.steering, **more}


@dataclass
class Tally:
    """What all clients share."""

    url: str
    model: str
    known: list[Known]
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    until: float = 0.0

    def keep_asking(self, kind: str, ask: Callable[[Client], None]) -> None:
        """Asks until the time is up. The first failure ends everything."""
        client = Client(self, random.Random(kind))
        try:
            with client.http:
                while time.monotonic() < self.until and not self.failures:
                    ask(client)
                    self.done[kind] += 1
        except Exception:
            self.failures.append(f"{kind}: {traceback.format_exc()}")


class Client:
    """One connection, and what it asks for next."""

    def __init__(self, tally: Tally, luck: random.Random) -> None:
        self.tally, self.luck = tally, luck
        self.http = httpx2.Client(base_url=tally.url, timeout=60)
        self.numbers = itertools.count()

    def known(self) -> Known:
        return self.luck.choice(self.tally.known)

    def ask(self, method: str, path: str, body: Json | None = None, *, expect: int = 200) -> Any:
        """The JSON of an answer, which has the expected status; a full queue is asked again."""
        while True:
            reply = self.http.request(method, path, json=body)
            if reply.status_code != 429:
                break
            time.sleep(PATIENCE)
        assert reply.status_code == expect, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def events(self, path: str, body: Json) -> Iterator[Json]:
        """The data of a stream's events; a full queue is asked again."""
        while True:
            with self.http.stream("POST", path, json=body) as reply:
                if reply.status_code == 429:
                    time.sleep(PATIENCE)
                    continue
                assert reply.status_code == 200, f"POST {path}: {reply.status_code}"
                for line in reply.iter_lines():
                    if line.startswith("data: {"):
                        yield json.loads(line.removeprefix("data: "))
            return


def whole_answers(client: Client) -> None:
    wanted = client.known()
    answer = client.ask("POST", "/v1/chat/completions", wanted.body(client.tally.model))
    wanted.check(answer["choices"][0]["message"]["content"], answer["steering"])


def streamed_answers(client: Client) -> None:
    wanted = client.known()
    chunks = list(client.events("/v1/chat/completions", wanted.body(client.tally.model, stream=True)))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    wanted.check(text, chunks[0]["steering"])
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def those_who_leave(client: Client) -> None:
    """Long answers, of which only the beginning is read."""
    wanted = client.known()
    stream = client.events("/v1/chat/completions", wanted.body(client.tally.model, stream=True, max_tokens=1000))
    first = next(stream)
    assert (first["steering"] and first["steering"]["hash"]) == wanted.hash
    for _ in range(client.luck.randrange(3)):
        next(stream, None)
    stream.close()  # type: ignore[attr-defined]


def wrong_requests(client: Client) -> None:
    body = client.known().body(client.tally.model)
    for change, status, code in (
        ({"steering": "nobody:0.5"}, 404, "persona_not_found"),
        ({"steering": {"personnas": {}}}, 400, "invalid_steering"),
        ({"model": f"{client.tally.model}:nobody"}, 404, "model_not_found"),
        ({"messages": []}, 400, "invalid_value"),
    ):
        refused = client.ask("POST", "/v1/chat/completions", body | change, expect=status)
        assert refused["error"]["code"] == code, refused


def earlier_clients(client: Client) -> None:
    reply = client.ask("POST", "/api/chat", {"message": "hello", "personas": {"sage": 0.5}, "safety_enabled": True})
    assert isinstance(reply["response"], str)
    assert client.ask("GET", "/api/status")["model_loaded"]


def those_who_measure(client: Client) -> None:
    """Jobs: one is followed to its end, another is cancelled."""
    job = client.ask("POST", "/api/v1/similarities", {}, expect=202)
    with client.http.stream("GET", f"/api/v1/jobs/{job['id']}/events") as reply:
        states = [json.loads(line[6:])["type"] for line in reply.iter_lines() if line.startswith("data: ")]
    assert "done" in states, states
    assert client.ask("GET", f"/api/v1/jobs/{job['id']}")["status"] == "succeeded"
    sweep = {"name": "sage", "strengths": [0.0, 1.0], "questions": 2, "max_new_tokens": 4, "controls": 1}
    job = client.ask("POST", "/api/v1/sweeps", {**sweep, "seed": next(client.numbers)}, expect=202)
    client.ask("POST", f"/api/v1/jobs/{job['id']}/cancel")
    while client.ask("GET", f"/api/v1/jobs/{job['id']}")["status"] in ("queued", "running"):
        time.sleep(PATIENCE)


def those_who_keep_presets(client: Client) -> None:
    wanted = next(one for one in client.tally.known if isinstance(one.steering, dict))
    name = f"soaked-{next(client.numbers)}"
    client.ask("POST", "/api/v1/presets", {"name": name, "steering": wanted.steering}, expect=201)
    answer = client.ask(
        "POST", "/v1/chat/completions", wanted.body(f"{client.tally.model}:preset/{name}") | {"steering": None}
    )
    wanted.check(answer["choices"][0]["message"]["content"], answer["steering"])
    client.ask("DELETE", f"/api/v1/presets/{name}", expect=204)
    client.ask("GET", f"/api/v1/presets/{name}", expect=404)


def those_who_talk(client: Client) -> None:
    """A conversation with two answers to one question, which is then removed."""
    wanted = client.known()
    talk = client.ask("POST", "/api/v1/conversations", {}, expect=201)
    path = f"/api/v1/conversations/{talk['id']}"
    sent = {"steering": wanted.steering, "sampling": {"seed": wanted.seed, "max_tokens": TOKENS}, "stream": False}
    first = client.ask("POST", f"{path}/messages", {"content": "hello", **sent})
    wanted.check(first["answer"]["content"], first["steering"])
    again = client.ask("POST", f"{path}/messages/{first['user']['id']}/answers", sent)
    wanted.check(again["answer"]["content"], again["steering"])
    kept = client.ask("GET", f"{path}/messages")["messages"]
    assert [one["content"] for one in kept] == ["hello", wanted.text, wanted.text]
    client.ask("DELETE", path, expect=204)


def those_who_are_live(client: Client) -> None:
    """Two lanes with one seed over a WebSocket."""
    first = client.known()
    pair = [first, client.luck.choice([one for one in client.tally.known if one.seed == first.seed])]
    ask = {
        "type": "generate",
        "messages": [{"role": "user", "content": "hello"}],
        "lanes": [{"steering": one.steering} for one in pair],
        "sampling": {"seed": first.seed, "max_tokens": TOKENS},
    }
    with connect(f"{client.tally.url.replace('http', 'ws')}/api/v1/live") as socket:
        socket.send(json.dumps(ask))
        ended = 0
        while ended < len(pair):
            frame = json.loads(socket.recv(timeout=60))
            if frame["type"] == "error" and frame["error"]["code"] == "queue_full":
                return
            assert frame["type"] != "error", frame
            if frame["type"] == "done":
                pair[frame["lane"]].check(frame["content"], frame["steering"])
                ended += 1


CLIENTS: dict[str, Callable[[Client], None]] = {
    "whole answers": whole_answers,
    "streamed answers": streamed_answers,
    "those who leave": those_who_leave,
    "wrong requests": wrong_requests,
    "earlier clients": earlier_clients,
    "jobs": those_who_measure,
    "presets": those_who_keep_presets,
    "conversations": those_who_talk,
    "live": those_who_are_live,
}


def soak(tally: Tally, seconds: float) -> None:
    """All kinds of clients at once, for so long."""
    tally.until = time.monotonic() + seconds
    threads = [threading.Thread(target=tally.keep_asking, args=(kind, ask)) for kind, ask in CLIENTS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
