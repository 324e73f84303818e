"""The service behind a server: it answers what the service of the same model in this process answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.server.api import MODEL, Api
from tests.server.found import KEY, found_server

from persona_steering.backends.base import Completion, Message, Sampling, conversation
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.engine.remote.client import ApiClient, checked_url
from persona_steering.engine.remote.refusals import error_of, refusal
from persona_steering.engine.remote.service import RemoteService
from persona_steering.engine.service import LocalService, SteeringService
from persona_steering.engine.steering import SteeringEngine
from persona_steering.errors import (
    BusyError,
    ConflictError,
    ModelMismatchError,
    NotFoundError,
    PersonaSteeringError,
    PromptError,
    RecipeError,
    ServerError,
    StorageError,
    UsageError,
)
from persona_steering.personas.manager import PersonaManager

MESSAGES = conversation("hello", "Be kind.")
SAMPLING = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=8, seed=5)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with found_server(tmp_path_factory.mktemp("home")) as api:
        yield api


@pytest.fixture
def client(api: Api) -> Iterator[ApiClient]:
    made = ApiClient(api.url, api_key=KEY)
    yield made
    made.close()


@pytest.fixture
def remote(api: Api, client: ApiClient) -> RemoteService:
    return RemoteService(client, api.state.config)


@pytest.fixture
def local(api: Api) -> LocalService:
    """The same model, asked without a server in between."""
    config = api.state.config
    model = ModelWrapper(config, backend=api.state.slot.open_backend())
    return LocalService(SteeringEngine(model, PersonaManager(config), config))


def last(service: SteeringService, blend: dict[str, float], messages: tuple[Message, ...] = MESSAGES) -> Completion:
    *pieces, done = service.stream(messages, service.plan(blend), sampling=SAMPLING)
    assert isinstance(done, Completion) and "".join(map(str, pieces)) == done.text
    return done


def test_it_says_what_is_loaded_without_its_path(remote: RemoteService, local: LocalService) -> None:
    there, here = remote.model, local.model
    assert there.id == MODEL and "/" in here.id
    assert there.identity is not None and here.identity is not None and there.identity.is_same_as(here.identity)
    assert (there.device, there.dtype, there.context_length) == (here.device, here.dtype, here.context_length)


@pytest.mark.parametrize("blend", [{}, {"sage": 0.6}, {"sage": 0.5, "calm": -0.25}, {"sage": 0.0}])
@pytest.mark.parametrize("safety", [None, False, True])
def test_a_plan_is_the_same_on_both_sides(
    blend: dict[str, float], safety: bool | None, remote: RemoteService, local: LocalService
) -> None:
    assert remote.plan(blend, safety=safety) == local.plan(blend, safety=safety)


@pytest.mark.parametrize("blend", [{}, {"sage": 0.6}, {"sage": 0.5, "calm": -0.25}])
def test_a_streamed_answer_is_the_same_on_both_sides(
    blend: dict[str, float], remote: RemoteService, local: LocalService
) -> None:
    there, here = last(remote, blend), last(local, blend)
    same = ("text", "finish_reason", "prompt_tokens", "recipe_hash", "caps_engaged", "tokens")
    assert [getattr(there, key) for key in same] == [getattr(here, key) for key in same]


def test_several_answers_are_those_of_one_batch(remote: RemoteService, local: LocalService) -> None:
    blends: list[dict[str, float]] = [{}, {"sage": 1.0}, {"pirate": 0.7}]
    there = remote.answers(MESSAGES, [remote.plan(one) for one in blends], sampling=SAMPLING)
    here = local.answers(MESSAGES, [local.plan(one) for one in blends], sampling=SAMPLING)
    assert [done.text for done in there] == [done.text for done in here]


def test_names_are_those_of_the_server_and_go_in_and_out_of_its_memory(remote: RemoteService, api: Api) -> None:
    assert remote.available() == ["calm", "pirate", "raw", "sage"]
    remote.load("raw")
    assert "raw" in remote.loaded() and "raw" in api.serving.loaded()
    remote.unload("raw")
    assert "raw" not in remote.loaded()


def test_a_cancelled_answer_ends_at_once_on_both_sides(remote: RemoteService, api: Api) -> None:
    endless = SAMPLING.model_copy(update={"max_new_tokens": 1500})
    stop = threading.Event()
    pieces = remote.stream(MESSAGES, remote.plan({"sage": 0.6}), sampling=endless, cancelled=stop.is_set)
    first = next(pieces)
    stop.set()
    *_, done = pieces
    assert isinstance(done, Completion) and isinstance(first, str)
    assert done.finish_reason == "cancelled" and done.text.startswith(first) and done.tokens is None
    api.wait_until_idle()


def test_an_answer_that_nobody_reads_to_its_end_is_cancelled(remote: RemoteService, api: Api) -> None:
    endless = SAMPLING.model_copy(update={"max_new_tokens": 1500})
    pieces = remote.stream(MESSAGES, remote.plan({}), sampling=endless)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    api.wait_until_idle()


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (lambda service: service.plan({"sgae": 0.5}), NotFoundError, ["'sgae'", "Did you mean 'sage'"]),
        (lambda service: service.plan({"sage": 3.0}), UsageError, ["steering"]),
        (lambda service: service.load("sgae"), NotFoundError, ["'sgae'", "Did you mean 'sage'"]),
        (lambda service: service.unload("raw"), NotFoundError, ["raw"]),
        (lambda service: service.load("../x"), UsageError, ["../x"]),
        (lambda service: last(service, {}, (Message("user", "long " * 2000),)), PromptError, ["context"]),
    ],
)
def test_what_is_refused_there_is_refused_here_with_its_words(
    ask: object, kind: type[PersonaSteeringError], words: list[str], remote: RemoteService
) -> None:
    with pytest.raises(kind) as error:
        ask(remote)  # type: ignore[operator]
    assert all(word in str(error.value) for word in words)
    assert not (error.value.hint and error.value.message.endswith(error.value.hint))


def test_a_vector_that_changes_between_plan_and_answer_is_an_error_and_no_answer(remote: RemoteService) -> None:
    plan = remote.plan({"sage": 0.6})
    other = remote.plan({"sage": 0.5})
    mixed = type(plan)(plan.blend, plan.safety, (), plan.recipe, other.recipe_hash, plan.actions)
    with pytest.raises(ServerError, match="otherwise than it was planned"):
        list(remote.stream(MESSAGES, mixed, sampling=SAMPLING))


def test_a_wrong_key_is_an_error_of_the_server(api: Api) -> None:
    with closing(ApiClient(api.url, api_key="wrong")) as client, pytest.raises(ServerError, match="API key") as error:
        client.get("/api/v1/system")
    assert error.value.exit_code == 5 and "--api-key" in error.value.hint


def test_a_server_that_is_not_there_cannot_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with closing(ApiClient(url)) as client:
            assert not client.is_alive()
            with pytest.raises(ServerError, match="cannot be reached"):
                client.get("/api/v1/system")


def test_a_server_that_breaks_off_in_mid_answer_is_an_error() -> None:
    """One that sends the beginning of an answer, and then is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                event = b'data: {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": null}]}\n\n'
                connection.sendall(head + b"%x\r\n%s\r\n" % (len(event), event))

        thread = threading.Thread(target=serve)
        thread.start()
        with closing(ApiClient(f"http://127.0.0.1:{listening.getsockname()[1]}")) as client:
            events = client.events("POST", "/v1/chat/completions", {})
            assert "Hel" in next(events).data
            with pytest.raises(ServerError, match="broke off"):
                next(events)
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "model_not_found", NotFoundError),
        (400, "invalid_steering", RecipeError),
        (400, "vector_model_mismatch", ModelMismatchError),
        (409, "conflict", ConflictError),
        (429, "queue_full", BusyError),
        (503, "model_loading", BusyError),
        (503, "no_model", ServerError),
        (507, "storage_failed", StorageError),
        (500, "internal_error", ServerError),
    ],
)
def test_a_refusal_is_the_error_that_it_was_made_of(status: int, code: str, kind: type[PersonaSteeringError]) -> None:
    detail = {"message": "It is so. Do that.", "hint": "Do that.", "code": code}
    error = error_of(detail, status=status)
    assert isinstance(error, kind) and (error.message, error.hint) == ("It is so.", "Do that.")


def test_what_is_no_answer_of_ours_is_shown_in_part() -> None:
    error = refusal(502, b"<h1>Bad gateway</h1>" + b"x" * 9000, {}, "http://host")
    assert isinstance(error, ServerError) and "Bad gateway" in error.message and len(error.message) < 500


@pytest.mark.parametrize("text", ["", "host:1", "ftp://host", "http://", "http://name:word@host"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="address of a server"):
        checked_url(text)


def test_an_address_is_that_of_the_server_and_not_of_a_path() -> None:
    assert checked_url(" http://127.0.0.1:8642/v1/ ") == "http://127.0.0.1:8642"
    assert checked_url("http://[::1]:8642") == "http://[::1]:8642"
