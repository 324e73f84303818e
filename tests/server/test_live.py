"""The live WebSocket: answers that are steered while they are written, and taken up after a broken connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.server.api import MODEL, Api, make_state, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from persona_steering.backends.base import Arrival, Message, Request, Sampling
from persona_steering.errors import NotFoundError
from persona_steering.interventions import Recipe
from persona_steering.server.answers.steering import Steered
from persona_steering.server.door.security import Door
from persona_steering.server.limits import LIMITS
from persona_steering.server.live.answers import LiveAnswer, LiveAnswers
from persona_steering.server.schemas.live import LiveReply
from persona_steering.server.schemas.steering import SteeringField

ASK = [{"role": "user", "content": "hello"}]
LONG = 900  # tokens of an answer that a test ends before its time
_REPLY = TypeAdapter(LiveReply)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("live")), Door.at("127.0.0.1")) as api:
        yield api


class Client:
    """One connection, as a page would have it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.generation = ""

    def say(self, type: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type, **fields}))

    def hear(self) -> dict[str, Any]:
        text = self.socket.recv(timeout=30)
        frame: dict[str, Any] = json.loads(text)
        _REPLY.validate_python(frame)  # every frame is of the published form
        self.generation = frame.get("generation") or self.generation
        return frame

    def until(self, *types: str) -> list[dict[str, Any]]:
        """Frames to the first of such a type."""
        found = [self.hear()]
        while found[-1]["type"] not in types:
            found.append(self.hear())
        return found

    def answer(self, **fields: Any) -> list[dict[str, Any]]:
        """All frames of a generation with one lane."""
        self.say("generate", **{"messages": ASK, **fields})
        return self.until("done", "error")


@contextmanager
def connected(api: Api, **options: Any) -> Iterator[Client]:
    with connect(f"{api.url.replace('http', 'ws')}/api/v1/live", **options) as socket:
        yield Client(socket)


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with connected(api) as made:
        yield made
    api.wait_until_idle()


def tokens(frames: list[dict[str, Any]], lane: int = 0) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["type"] == "token" and frame["lane"] == lane]


def text_of(frames: list[dict[str, Any]], lane: int = 0) -> str:
    return "".join(frame["text"] for frame in tokens(frames, lane))


def posted(api: Api, steering: Any, **more: Any) -> str:
    body = {"model": MODEL, "messages": ASK, "seed": 5, "steering": steering, **more}
    with api.client() as http:
        return str(http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])


def test_hello_says_what_is_there(client: Client) -> None:
    client.say("hello", id="1")
    welcome = client.hear()
    assert (welcome["type"], welcome["id"], welcome["model"]) == ("hello", "1", MODEL)
    client.say("ping", id="2")
    assert client.hear() == {"v": 1, "id": "2", "type": "pong"}


@pytest.mark.parametrize("steering", [None, "sage:0.6", {"personas": {"sage": 0.6}, "traits": {"calm": -0.3}}])
def test_the_text_is_that_of_the_same_request_over_http(steering: Any, client: Client, api: Api) -> None:
    frames = client.answer(lanes=[{"steering": steering}], sampling={"seed": 5})
    start, done = frames[0], frames[-1]
    assert (start["type"], start["seed"], done["type"]) == ("start", 5, "done")
    assert text_of(frames) == done["content"] == posted(api, steering)
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame["i"] for frame in tokens(frames)] == list(range(done["usage"]["completion_tokens"]))
    assert (start["lanes"][0]["steering"] is None) == (steering is None)
    assert done["segments"][0]["from_token"] == 0


def test_lanes_have_one_seed_and_each_is_as_it_is_alone(client: Client, api: Api) -> None:
    lanes = [{"label": "plain"}, {"label": "sage", "steering": "sage:0.6"}]
    client.say("generate", messages=ASK, lanes=lanes, sampling={"seed": 5})
    frames = client.until("done")
    frames += client.until("done")
    assert [lane["label"] for lane in frames[0]["lanes"]] == ["plain", "sage"]
    assert text_of(frames, 0) == posted(api, None)
    assert text_of(frames, 1) == posted(api, "sage:0.6")


def test_traces_and_probabilities_come_with_the_tokens(client: Client) -> None:
    steering = {"personas": {"sage": 0.6}, "trace": {"axes": ["sage"]}}
    frames = client.answer(lanes=[{"steering": steering}], sampling={"seed": 5}, logprobs=True)
    readings = [reading for frame in tokens(frames) for reading in frame["readings"]]
    assert [reading["i"] for reading in readings] == list(range(len(readings)))
    assert all(reading["axes"]["sage"][0] != reading["axes"]["sage"][1] for reading in readings)
    assert all(frame["logprob"] <= 0 for frame in tokens(frames))
    assert [one["axis"] for one in frames[0]["lanes"][0]["traces"]] == ["sage"]


def engine_steered(api: Api, first: Recipe, place: int, then: Recipe, sampling: Sampling) -> str:
    """What the engine writes when another recipe has its first say at the token `place`."""
    batch = api.serving._engine.model.backend.live()
    batch.admit([Arrival(0, Request((Message("user", "hello"),), recipe=first, sampling=sampling))])
    text, written = "", 0
    while len(batch):
        if written == place - 1:  # one token is chosen already
            assert batch.steer(0, then) == place
        for piece in batch.advance():
            text += piece.text
            written += len(piece.tokens)
    return text


def test_steering_in_the_middle_is_what_the_engine_does_at_that_token(client: Client, api: Api) -> None:
    asked = {"seed": 5, "max_tokens": 60, "temperature": 0.9}
    client.say("generate", messages=ASK, lanes=[{"steering": "sage:0.6"}], sampling=asked)
    frames = client.until("token")
    client.say("steer", id="turn", steering="pirate:1.2")
    frames += client.until("done")
    (ack,) = [frame for frame in frames if frame["type"] == "steer_ack"]
    assert (ack["id"], ack["lane"], ack["steering"]["short"]) == ("turn", 0, "pirate:1.2")
    done = frames[-1]
    sage, pirate = (
        api.serving.steering(blend, safety=None, layers={}).recipe for blend in ({"sage": 0.6}, {"pirate": 1.2})
    )
    sampling = Sampling.configured(api.serving.config.generation, seed=5, max_new_tokens=60)
    warm = sampling.model_copy(update={"temperature": 0.9})
    assert done["content"] == engine_steered(api, sage, ack["from_token"], pirate, warm)
    assert done["content"] != posted(api, "sage:0.6", max_tokens=60, temperature=0.9)
    assert [one["from_token"] for one in done["segments"]] == [0, ack["from_token"]]
    assert [one["asked"] for one in done["segments"]] == ["sage:0.6", "pirate:1.2"]
    assert done["steering"]["short"] == "pirate:1.2"


def test_what_was_acknowledged_is_among_what_steered_the_answer_also_at_its_end(client: Client) -> None:
    for length in (2, 3, 4, 5):
        client.say("generate", messages=ASK, sampling={"max_tokens": length})
        client.say("steer", steering="sage")
        frames = client.until("done")
        acknowledged = [frame["from_token"] for frame in frames if frame["type"] == "steer_ack"]
        assert [one["from_token"] for one in frames[-1]["segments"]] == [0, *(x for x in acknowledged if x)]
        if not acknowledged and "error" not in [frame["type"] for frame in frames]:
            client.until("error")  # it came too late, and that is said


def test_one_lane_is_steered_or_stopped_and_the_other_goes_on(client: Client, api: Api) -> None:
    client.say("generate", messages=ASK, lanes=[{}, {}], sampling={"seed": 5, "max_tokens": 40})
    frames = client.until("token")
    client.say("steer", lane=1, steering="sage:1.0")
    frames += client.until("steer_ack")
    assert frames[-1]["lane"] == 1
    client.say("stop", lane=1)
    frames += client.until("done")
    frames += client.until("done")
    ended = {frame["lane"]: frame for frame in frames if frame["type"] == "done"}
    assert ended[1]["finish_reason"] == "cancelled"
    assert ended[0]["content"] == posted(api, None, max_tokens=40)
    assert len(ended[0]["segments"]) == 1


def test_a_lane_that_has_just_ended_keeps_no_other_from_being_steered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    steer = LiveAnswer.steer

    async def ended(lane: LiveAnswer, asked: SteeringField | None, applied: Steered) -> int:
        if lane.lane == 0:
            raise NotFoundError("this answer is not being written.")
        return await steer(lane, asked, applied)

    monkeypatch.setattr(LiveAnswer, "steer", ended)
    client.say("generate", messages=ASK, lanes=[{}, {}], sampling={"seed": 5, "max_tokens": 200})
    client.until("token")
    client.say("steer", steering="sage:1.0")
    frame = client.until("steer_ack", "error")[-1]
    assert (frame["type"], frame.get("lane")) == ("steer_ack", 1)
    client.say("stop")
    assert {client.until("done", "error")[-1]["type"] for _ in range(2)} == {"done"}


def test_a_stopped_answer_keeps_what_there_was(client: Client) -> None:
    client.say("generate", messages=ASK, sampling={"max_tokens": LONG})
    frames = client.until("token")
    client.say("stop")
    frames += client.until("done")
    assert frames[-1]["finish_reason"] == "cancelled"
    assert frames[-1]["usage"]["completion_tokens"] < LONG
    assert frames[-1]["content"].startswith(text_of(frames)[:1])


def test_a_broken_connection_is_taken_up_without_a_gap(api: Api) -> None:
    with connected(api) as first:
        first.say("generate", messages=ASK, sampling={"seed": 5, "max_tokens": 120})
        heard = first.until("token") + first.until("token")
        first.socket.socket.close()  # as a network does, without a word
    with connected(api) as second:
        second.say("resume", generation=first.generation, after=heard[-1]["seq"])
        heard += second.until("done")
    assert [frame["seq"] for frame in heard] == list(range(1, len(heard) + 1))
    assert text_of(heard) == heard[-1]["content"] == posted(api, None, max_tokens=120)
    with connected(api) as third:  # also once it has ended
        third.say("resume", generation=first.generation, after=heard[-2]["seq"])
        assert third.hear() == heard[-1]


def test_an_answer_that_nobody_comes_back_to_ends_and_is_forgotten(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.live = LiveAnswers(patience=0.05)
    with running(state, Door.at("127.0.0.1")) as api:
        with connected(api) as gone:
            gone.say("generate", messages=ASK, sampling={"max_tokens": LONG})
            gone.until("token")
        api.wait_until_idle()
        assert api.serving.scheduler.load.tokens < LONG
        with connected(api) as late:
            late.say("resume", generation=gone.generation)
            assert late.hear()["error"]["code"] == "generation_not_found"
        assert state.live.count == 0


def test_what_is_written_in_a_conversation_is_kept_with_its_segments(client: Client, api: Api) -> None:
    store = api.state.conversations
    kept = store.create()
    place = {"conversation_id": kept.id, "content": "hello"}
    client.say("generate", conversation=place, lanes=[{"steering": "sage:0.6"}], sampling={"seed": 5, "max_tokens": 60})
    frames = client.until("token")
    client.say("steer", steering=None)
    frames += client.until("done")
    start, done = frames[0], frames[-1]
    assert (start["user"]["content"], start["lanes"][0]["answer"]["status"]) == ("hello", "writing")
    question, answer = store.path(kept.id)
    assert (question.id, answer.id) == (start["user"]["id"], start["lanes"][0]["answer"]["id"])
    assert (answer.content, answer.status) == (done["content"], "complete")
    assert answer.made is not None
    assert [one.model_dump(mode="json") for one in answer.made.segments] == done["segments"]
    assert [one.asked for one in answer.made.segments] == ["sage:0.6", None]

    client.say(
        "generate",
        conversation={"conversation_id": kept.id, "answer_to": question.id},
        lanes=[{}, {"steering": "pirate"}],
        sampling={"seed": 6},
    )
    both = client.until("done")
    both += client.until("done")
    texts = {frame["answer"]["id"]: frame["content"] for frame in both if frame["type"] == "done"}
    children = [node for node in store.tree(kept.id) if node.parent_id == question.id]
    assert {node.id: node.content for node in children if node.id != answer.id} == texts
    assert store.get(kept.id).leaf_id == both[0]["lanes"][0]["answer"]["id"]


@pytest.mark.parametrize(
    ("frame", "code", "named"),
    [
        ("no json", "invalid_value", "JSON"),
        ("[]", "invalid_value", ""),
        ('{"type": "sing"}', "invalid_value", "type"),
        ('{"type": "ping", "v": 2}', "invalid_value", "v"),
        ('{"type": "generate"}', "invalid_value", "messages or conversation"),
        (json.dumps({"type": "generate", "messages": []}), "invalid_value", "messages"),
        (json.dumps({"type": "generate", "messages": ASK, "lanes": [{}] * 5}), "invalid_value", "lanes"),
        (
            json.dumps({"type": "generate", "messages": ASK, "lanes": [{"steering": "sag"}]}),
            "persona_not_found",
            "sage",
        ),
        (json.dumps({"type": "generate", "messages": [{"role": "assistant", "content": "hi"}]}), "invalid_value", ""),
        (json.dumps({"type": "generate", "messages": ASK, "lane": []}), "invalid_value", "lane"),
        (json.dumps({"type": "generate", "messages": [{"role": "user", "content": "x" * 5000}]}), None, ""),
        (json.dumps({"type": "generate", "conversation": {"conversation_id": "nope", "content": "x"}}), None, ""),
        ('{"type": "stop"}', "invalid_value", "nothing is being written"),
        ('{"type": "steer", "steering": "sage"}', "invalid_value", "nothing is being written"),
        ('{"type": "resume", "generation": "gen_0"}', "generation_not_found", "gen_0"),
        (b"\x00\xff", "invalid_value", ""),
    ],
)
def test_a_bad_frame_is_answered_with_an_error_and_the_connection_lives(
    frame: str | bytes, code: str | None, named: str, client: Client
) -> None:
    client.socket.send(frame)
    error = client.hear()
    assert error["type"] == "error"
    assert error["error"]["code"] == (code or error["error"]["code"])
    assert named in error["error"]["message"]
    client.say("ping")
    assert client.hear()["type"] == "pong"


def test_a_connection_has_one_generation_at_a_time_and_another_one_after_it(client: Client) -> None:
    client.say("generate", messages=ASK, sampling={"max_tokens": LONG})
    client.until("token")
    client.say("generate", id="second", messages=ASK)
    refused = client.until("error")[-1]
    assert (refused["id"], refused["error"]["code"]) == ("second", "conflict")
    client.say("steer", id="traced", steering={"personas": {"sage": 1}, "trace": {"axes": ["sage"]}})
    assert client.until("error")[-1]["id"] == "traced"
    client.say("stop", lane=3)
    assert "lane 3" in client.until("error")[-1]["error"]["message"]
    client.say("stop")
    client.until("done")
    client.say("stop", id="late")
    assert client.until("error")[-1]["error"]["code"] == "conflict"
    assert client.answer()[-1]["type"] == "done"


def test_without_a_model_a_generation_is_refused_with_the_reason(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.slot.unload()
    with running(state, Door.at("127.0.0.1")) as api, connected(api) as client:
        assert client.answer()[-1]["error"]["code"] == "no_model"
        client.say("hello")
        assert client.hear()["model"] is None


def test_a_frame_beyond_the_limit_closes_the_connection(api: Api) -> None:
    with connected(api) as client:
        client.say("generate", messages=[{"role": "user", "content": "x" * 300_000}])
        with pytest.raises(ConnectionClosed):
            client.hear()


def test_a_foreign_page_and_one_without_the_key_get_no_connection(tmp_path: Path) -> None:
    with running(make_state(tmp_path), Door.at("127.0.0.1", api_key="a-secret-of-this-test")) as api:
        with pytest.raises(InvalidStatus) as refused, connected(api):
            pass
        assert refused.value.response.status_code == 401
        bearer = {"subprotocols": ["bearer.a-secret-of-this-test"]}
        with (
            pytest.raises(InvalidStatus) as refused,
            connected(api, additional_headers={"Origin": "http://evil.example"}, **bearer),
        ):
            pass
        assert refused.value.response.status_code == 403
        with connected(api, **bearer) as client:
            client.say("ping")
            assert client.hear()["type"] == "pong"


def test_silence_ends_a_connection_but_not_while_an_answer_is_written(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = LIMITS.model_copy(update={"idle_seconds": 0.05})
    with connected(api) as client:
        monkeypatch.setattr("persona_steering.server.routes.live.LIMITS", impatient)
        client.say("generate", messages=ASK, sampling={"max_tokens": 200})
        assert client.until("done")[-1]["usage"]["completion_tokens"] == 200
        with pytest.raises(ConnectionClosed) as closed:
            client.hear()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


def test_a_stopping_server_ends_open_connections(tmp_path: Path) -> None:
    with ExitStack() as left:
        with running(make_state(tmp_path), Door.at("127.0.0.1")) as api:
            client = left.enter_context(connected(api))
            client.say("ping")
            client.hear()
        with pytest.raises(ConnectionClosed):  # and the server has ended, which `running` checks
            client.hear()


def test_an_answer_whose_message_is_deleted_ends(client: Client, api: Api) -> None:
    kept = api.state.conversations.create()
    place = {"conversation_id": kept.id, "content": "hello"}
    client.say("generate", conversation=place, sampling={"max_tokens": LONG})
    client.until("token")
    api.state.conversations.delete(kept.id)
    broken = client.until("done", "error")[-1]
    assert (broken["type"], broken["lane"], broken["error"]["code"]) == ("error", 0, "not_found")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
types = st.sampled_from(["hello", "generate", "steer", "stop", "resume", "ping", "x"])
names = st.sampled_from(
    ["v", "id", "messages", "lanes", "steering", "lane", "generation", "after", "sampling", "extra"]
)
frames_of_any_form = st.fixed_dictionaries({"type": types | values}).flatmap(
    lambda head: st.dictionaries(names, values, max_size=4).map(lambda more: json.dumps({**more, **head}))
)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=frames_of_any_form | st.text(max_size=20) | st.binary(max_size=20))
def test_no_frame_breaks_the_connection_or_tells_of_the_machine(frame: str | bytes, client: Client) -> None:
    client.socket.send(frame)
    client.say("ping", id="after")
    heard = client.until("pong")
    while heard[-1]["id"] != "after":
        heard += client.until("pong")
    for one in heard:
        if one["type"] == "error":
            assert one["error"]["code"] != "internal_error"
            assert "/tmp" not in one["error"]["message"]
