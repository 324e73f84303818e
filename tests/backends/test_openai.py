"""The remote backend against a real server that answers well, badly, late or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from tests.backends.fake_server import FakeServer, Reply, Script, says, serving, streams
from tests.backends.tiny import make_vector

from persona_steering.backends import load
from persona_steering.backends.base import Completion, Request, Sampling, Text, conversation
from persona_steering.backends.openai import OpenAIBackend, connect
from persona_steering.backends.tokens import Trace
from persona_steering.errors import (
    CapabilityError,
    ConfigError,
    ModelError,
    ServerError,
    ServerRefusalError,
    UsageError,
)
from persona_steering.interventions import Add, Recipe
from persona_steering.vectors import ModelIdentity

KEY = "sk-very-secret-0123456789"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
IDENTITY = ModelIdentity(id="x", fingerprint="f" * 16, num_layers=4, hidden_size=8)


def ask(prompt: str = "Who goes there?", **options: Any) -> Request:
    return Request(conversation(prompt, "Be brief."), sampling=Sampling(max_new_tokens=9, seed=3), **options)


def prompt_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


class Connected:
    """A backend on a server with a script, and how long it would have slept."""

    def __init__(self, server: FakeServer, **options: Any) -> None:
        self.server, self.waits = server, list[float]()
        settings: dict[str, Any] = {"timeout": 5.0, "max_retries": 3, "sleep": self.waits.append, "api_key": KEY}
        self.backend = OpenAIBackend(server.url, "qwen", **(settings | options))

    def answer(self, request: Request | None = None) -> Completion:
        return self.backend.generate([request or ask()])[0]


@pytest.fixture
def connected() -> Iterator[Callable[..., Connected]]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(script: Script, **options: Any) -> Connected:
            made = Connected(stack.enter_context(serving(script)), **options)
            stack.callback(made.backend.close)
            return made

        yield make


def one_after_another(*replies: Reply) -> Script:
    """Each reply once, and the last for ever."""
    return lambda body, number: replies[min(number, len(replies) - 1)]


Connect = Callable[..., Connected]


# What is sent, and what comes back


def test_a_request_becomes_a_chat_completion_and_its_answer_a_completion(connected: Connect) -> None:
    made = connected(lambda body, number: says("A friend."))
    done = made.answer(ask())
    assert (done.text, done.finish_reason, done.prompt_tokens) == ("A friend.", "stop", 7)
    assert made.server.paths == ["/v1/chat/completions"]
    assert made.server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert made.server.bodies == [
        {
            "model": "qwen",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Who goes there?"},
            ],
            "temperature": 0.7,
            "top_p": 1.0,
            "seed": 3,
            "max_tokens": 9,
        }
    ]


def test_a_schema_becomes_a_response_format(connected: Connect) -> None:
    made = connected(lambda body, number: says('{"a": "b"}'))
    assert made.answer(ask(schema=SCHEMA)).text == '{"a": "b"}'
    form = made.server.bodies[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(("sent", "seen"), [("stop", "stop"), ("length", "length"), ("content_filter", "filtered")])
def test_how_an_answer_ended_is_kept(connected: Connect, sent: str, seen: str) -> None:
    assert connected(lambda body, number: says("Hm.", finish=sent)).answer().finish_reason == seen


def test_an_answer_of_thoughts_alone_is_empty(connected: Connect) -> None:
    assert connected(lambda body, number: says(None, finish="length")).answer().text == ""


def test_many_requests_run_at_once_but_no_more_than_allowed_and_answers_keep_their_order(connected: Connect) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return Reply(says(prompt_of(body)).body, hang=0.05)

    made = connected(script, concurrency=3)
    heard: dict[int, str] = {}
    prompts = [f"Question {i}?" for i in range(12)]
    done = made.backend.generate([ask(p) for p in prompts], on_done=lambda i, c: heard.__setitem__(i, c.text))
    assert [completion.text for completion in done] == prompts
    assert heard == dict(enumerate(prompts))
    assert 1 < made.server.most_at_once <= 3


def test_a_server_that_knows_only_the_newer_name_of_the_limit_is_asked_by_it(connected: Connect) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        if "max_tokens" in body:
            return Reply('{"error": {"message": "Use max_completion_tokens instead."}}', status=400)
        return says(str(body["max_completion_tokens"]))

    made = connected(script)
    assert [made.answer().text, made.answer().text] == ["9", "9"]
    assert len(made.server.bodies) == 3


# Streaming


def test_streamed_pieces_join_to_the_text(connected: Connect) -> None:
    made = connected(lambda body, number: streams("A ", "fri", "end."))
    *pieces, done = made.backend.stream(ask())
    assert pieces == ["A ", "fri", "end."]
    assert isinstance(done, Completion) and (done.text, done.finish_reason) == ("A friend.", "stop")
    assert made.server.bodies[0]["stream"] is True


def test_a_stream_can_be_stopped_and_what_was_written_is_kept(connected: Connect) -> None:
    made = connected(lambda body, number: streams("A ", "friend."))
    heard: list[str] = []
    for piece in made.backend.stream(ask(), cancelled=lambda: bool(heard)):
        if isinstance(piece, Completion):
            assert (piece.text, piece.finish_reason) == ("A ", "cancelled")
        else:
            heard.append(piece)
    assert heard == ["A "]


def test_a_stream_that_ends_before_its_answer_is_an_error(connected: Connect) -> None:
    made = connected(lambda body, number: streams("A fri", finish=None, done=False))
    pieces = made.backend.stream(ask())
    assert next(pieces) == "A fri"
    with pytest.raises(ServerError, match="ended before the answer did"):
        next(pieces)


def test_a_stream_is_opened_again_when_the_server_was_busy(connected: Connect) -> None:
    made = connected(one_after_another(Reply(status=503), streams("Ah.")))
    assert next(iter(made.backend.stream(ask()))) == "Ah."
    assert len(made.waits) == 1


# Trouble


def test_a_busy_server_is_asked_again_with_growing_waits(connected: Connect) -> None:
    made = connected(one_after_another(Reply(status=500), Reply(status=502), Reply(status=429), says("At last.")))
    assert made.answer().text == "At last."
    assert len(made.waits) == 3 and made.waits[0] < made.waits[1] < made.waits[2]


def test_the_servers_own_wait_is_honoured_in_seconds_and_as_a_date(connected: Connect) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    busy = [Reply(status=429, headers={"Retry-After": value}) for value in ("7", later)]
    made = connected(one_after_another(*busy, says("Now.")))
    assert made.answer().text == "Now."
    assert made.waits[0] == 7 and 30 < made.waits[1] <= 40


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(connected: Connect) -> None:
    made = connected(lambda body, number: Reply('{"error": "quota"}', status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(ServerRefusalError, match="quota; it asks to wait 3600 s"):
        made.answer()
    assert made.waits == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply("<html>nginx</html>", status=500), "status 500: <html>nginx</html> after 4 attempts"),
        (Reply('{"error": {"message": "slow down"}}', status=429), "status 429: slow down after 4 attempts"),
        (Reply("not json at all"), "not JSON after 4 attempts: 'not json at all'"),
        (Reply("[1, 2]"), "not JSON after 4 attempts"),
        (Reply(says("A friend of yours.").body, cut=12), "broke off its answer after 4 attempts"),
        (Reply(b"\xff\xfe\x00garbage"), "not JSON after 4 attempts"),
    ],
    ids=["500", "429", "garbage", "a list", "half an answer", "bytes"],
)
def test_lasting_trouble_is_a_clear_error_after_the_last_attempt(
    connected: Connect, reply: Reply, message: str
) -> None:
    made = connected(lambda body, number: reply)
    with pytest.raises(ServerError) as caught:
        made.answer()
    assert caught.value.exit_code == 5
    assert message in caught.value.message and "http://127.0.0.1:" in caught.value.message and caught.value.hint
    assert len(made.server.bodies) == 4 and len(made.waits) == 3


def test_a_server_that_hangs_is_given_up_in_time(connected: Connect) -> None:
    made = connected(lambda body, number: Reply(hang=30), timeout=0.2, max_retries=1)
    with pytest.raises(ServerError, match=r"did not answer within 0\.2 s after 2 attempts"):
        made.answer()


def test_nobody_at_the_address_is_a_clear_error() -> None:
    with serving(lambda body, number: says("")) as server:
        url = server.url
    backend = OpenAIBackend(url, "m", max_retries=1, sleep=lambda seconds: None)
    with backend, pytest.raises(ServerError, match="cannot be reached after 2 attempts"):
        backend.generate([ask()])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply('{"detail": "no such model"}', status=404), "status 404: no such model"),
        (Reply('{"error": {"message": "bad key"}}', status=401), "status 401: bad key"),
        (Reply('{"choices": []}'), "no choices"),
        (Reply('{"id": 1, "choices": [{"message": {}}]}'), "a message without text"),
        (Reply('{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}'), "a message without text"),
        (says("x", finish="tool_calls"), "the finish_reason 'tool_calls'"),
        (Reply('{"error": {"message": "the upstream is gone"}}'), "reports an error: the upstream is gone"),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_tried_again(connected: Connect, reply: Reply, message: str) -> None:
    made = connected(lambda body, number: reply)
    with pytest.raises(ServerError) as caught:
        made.answer()
    assert message in caught.value.message
    assert len(made.server.bodies) == 1


def test_the_key_is_in_no_error_even_when_the_server_repeats_it(connected: Connect) -> None:
    made = connected(lambda body, number: Reply(json.dumps({"error": f"wrong key {KEY}"}), status=401))
    with pytest.raises(ServerError) as caught:
        made.answer()
    assert KEY not in str(caught.value) and "wrong key ***" in str(caught.value)
    assert KEY not in repr(made.backend.info)


def test_a_name_and_password_in_the_url_are_not_shown() -> None:
    with OpenAIBackend("http://me:secret@localhost:1/v1", "m") as backend:
        assert "secret" not in backend.info.id and backend.info.device == "http://localhost:1/v1"


def test_what_was_answered_before_the_server_failed_is_heard_of(connected: Connect) -> None:
    def script(body: dict[str, Any], number: int) -> Reply:
        return says("Fine.") if number < 3 else Reply(status=500)

    made = connected(script, concurrency=1, max_retries=0)
    heard: list[int] = []
    with pytest.raises(ServerError):
        made.backend.generate([ask() for _ in range(9)], on_done=lambda i, c: heard.append(i))
    assert heard == [0, 1, 2]
    assert len(made.server.bodies) == 4, "the rest is not even asked for"


def test_a_stop_leaves_the_rest_unasked_and_says_cancelled(connected: Connect) -> None:
    stop = threading.Event()
    made = connected(lambda body, number: says("Fine.") if number < 2 else Reply(hang=30), concurrency=1)

    def heard(index: int, completion: Completion) -> None:
        if index == 1:
            stop.set()

    done = made.backend.generate([ask() for _ in range(5)], on_done=heard, cancelled=stop.is_set)
    assert [completion.finish_reason for completion in done] == ["stop", "stop", "cancelled", "cancelled", "cancelled"]


# What it cannot do


def test_steering_capture_and_scores_are_refused_by_name(connected: Connect) -> None:
    made = connected(lambda body, number: says("No."))
    steer = Recipe((Add(vector=make_vector(IDENTITY), values={1: 1.0}),))
    with pytest.raises(CapabilityError, match="openai backend cannot add"):
        made.answer(ask(recipe=steer))
    with pytest.raises(CapabilityError, match="cannot capture"):
        made.answer(ask(capture=(1,)))
    with pytest.raises(CapabilityError, match="cannot capture"):
        made.backend.capture([Text(conversation("a"), "b")])
    with pytest.raises(CapabilityError, match="cannot score"):
        made.backend.score([Text(conversation("a"), "b")])
    with pytest.raises(CapabilityError, match="does not tell log-probabilities"):
        made.answer(ask(logprobs=0))
    trace = Trace("sage", make_vector(IDENTITY), 1)
    with pytest.raises(CapabilityError, match="cannot trace tokens"):
        made.answer(ask(trace=(trace,)))
    with pytest.raises(CapabilityError, match="cannot trace tokens"):
        made.backend.readings([Text(conversation("a"), "b")], [trace])
    with pytest.raises(CapabilityError, match="text only"):
        _ = made.backend.identity
    assert made.server.bodies == []


def test_a_server_without_response_format_is_remembered_as_one(connected: Connect) -> None:
    made = connected(lambda body, number: Reply('{"error": "unknown field response_format"}', status=400))
    assert made.backend.capabilities.schema_constrained
    with pytest.raises(CapabilityError, match="cannot hold an answer to a JSON schema"):
        made.answer(ask(schema=SCHEMA))
    assert not made.backend.capabilities.schema_constrained


def test_a_closed_connection_says_so(connected: Connect) -> None:
    made = connected(lambda body, number: says("Hm."))
    made.backend.close()
    made.backend.close()
    with pytest.raises(ModelError, match="closed"):
        made.answer()


# Names


def test_a_name_holds_the_address_and_the_model(tmp_path: Path) -> None:
    with load("openai:http://localhost:11434/v1#qwen2.5:14b", cache=tmp_path) as backend:
        assert backend.info.id == "openai:http://localhost:11434/v1#qwen2.5:14b"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://localhost:11434/v1", "does not name a model"),
        ("http://localhost:11434/v1#", "does not name a model"),
        ("localhost:11434/v1#m", "is not the URL of a server"),
        ("ftp://localhost/v1#m", "is not the URL of a server"),
        ("http://#m", "is not the URL of a server"),
        ("#m", "is not the URL of a server"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        connect(address)


def test_options_of_local_models_are_refused_for_a_remote_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="device and quantization cannot be chosen"):
        load("openai:http://localhost:1/v1#m", device="cuda", quantization="4bit", cache=tmp_path)


def test_the_key_comes_from_the_variable_that_is_named(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    made = connected(lambda body, number: says("Hm."))
    with connect(f"{made.server.url}#m", api_key_env="MY_KEY") as backend:
        backend.generate([ask()])
    assert made.server.headers[0]["Authorization"] == f"Bearer {KEY}"
    with pytest.raises(ConfigError, match="OTHER_KEY is not set"):
        connect("http://localhost/v1#m", api_key_env="OTHER_KEY")
