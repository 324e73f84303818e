"""What the server says of itself: its state, its counters and its log."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.api import MODEL, Api, make_state, running, until

from persona_steering.errors import NotFoundError
from persona_steering.server.door.security import Door
from persona_steering.server.limits import LIMITS
from persona_steering.server.logs import FIELDS, REQUEST_ID, JsonLines, set_up_logging

KEY = "a-key"
THREADS = 40  # in which a server does what would hold up its event loop
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("system")), Door.at("127.0.0.1", api_key=KEY)) as api:
        yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client(authorization=f"Bearer {KEY}") as client:
        yield client


def counted(http: httpx2.Client) -> dict[str, float]:
    """Every series, as `name{label=value,...}`."""
    found = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name.removeprefix('persona_steering_')}{{{labels}}}"] = sample.value
    return found


def test_the_system_is_what_the_engine_says(api: Api, http: httpx2.Client) -> None:
    answer = http.get("/api/v1/system")
    found, identity = answer.json(), api.state.slot.open_backend().identity
    assert found["model"] | {"fingerprint": 0} == {
        "id": MODEL,
        "fingerprint": 0,
        "type": identity.model_type,
        "layers": identity.num_layers,
        "hidden_size": identity.hidden_size,
        "backend": "transformers",
        "device": "cpu",
        "dtype": "float32",
        "quantization": None,
        "context_length": 2048,
        "has_chat_template": True,
    }
    assert found["limits"] == LIMITS.model_dump(mode="json")
    assert (found["settings"]["max_new_tokens"], found["settings"]["safety"]) == (8, True)
    assert (found["jobs"], found["slot"]["state"]) == ({"queued": 0, "running": 0}, "ready")
    assert 0 < found["memory"]["used_bytes"] < found["memory"]["total_bytes"]
    assert str(api.state.config.workspace) not in answer.text and str(api.state.config.model.name) not in answer.text


def test_answers_tokens_and_caps_are_counted_by_whether_they_were_steered(api: Api, http: httpx2.Client) -> None:
    before = counted(http)
    for model in (MODEL, f"{MODEL}:sage", f"{MODEL}:sage"):
        body = {"model": model, "messages": ASK, "max_tokens": 5}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
    api.wait_until_idle()
    after = counted(http)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown["answers_total{ending=length,steered=no}"] == 1
    assert grown["answers_total{ending=length,steered=yes}"] == 2
    assert (grown["tokens_total{steered=no}"], grown["tokens_total{steered=yes}"]) == (5, 10)
    assert grown["first_token_seconds_count{steered=yes}"] == grown["answer_seconds_count{steered=yes}"] == 2
    assert 0 < grown["first_token_seconds_sum{steered=yes}"] <= grown["answer_seconds_sum{steered=yes}"]
    assert grown["http_requests_total{method=POST,path=/v1/chat/completions,status=200}"] == 3
    assert (after["answers_writing{}"], after["answers_waiting{}"], after["model_ready{}"]) == (0, 0, 1)


def test_requests_are_counted_by_route_and_what_people_try_makes_no_series(http: httpx2.Client) -> None:
    job = "/api/v1/jobs/job_00000000000000000000000000"
    assert http.get(job).status_code == 404
    assert http.get("/wp-login.php").status_code == 404
    assert http.get("/api/v1/system", headers={"authorization": ""}).status_code == 401
    found = counted(http)
    assert found["http_requests_total{method=GET,path=/api/v1/jobs/{job_id},status=404}"] >= 1
    assert found["http_requests_total{method=GET,path=other,status=404}"] >= 1
    assert found["http_requests_total{method=GET,path=other,status=401}"] >= 1
    assert "wp-login" not in str(found)
    assert http.request("INVENTED", "/api/v1/system").status_code == 405
    found = counted(http)
    assert found["http_requests_total{method=other,path=/api/v1/system,status=405}"] == 1
    assert "INVENTED" not in str(found)


def test_whether_it_is_ready_is_said_also_while_every_thread_is_busy(
    api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, busy = threading.Event(), threading.Semaphore(0)

    def wait(*_: object) -> None:
        busy.release()
        assert gate.wait(60)
        raise NotFoundError("nothing.")

    monkeypatch.setattr(api.state.library, "page", wait)
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            asked = [pool.submit(http.get, "/api/v1/personas") for _ in range(THREADS)]
            assert all(busy.acquire(timeout=30) for _ in range(THREADS))
            with api.client() as other:
                assert other.get("/readyz", timeout=10).status_code == 200
        finally:
            gate.set()
    assert {one.result().status_code for one in asked} == {404}


def test_counters_are_behind_the_key_like_all_else(api: Api) -> None:
    with api.client() as http:
        assert http.get("/metrics").status_code == 401


def test_a_line_of_the_log_is_one_json_object_with_the_request_it_belongs_to(api: Api) -> None:
    lines, said = io.StringIO(), logging.getLogger("persona_steering")
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    said.addHandler(handler)
    before = said.level
    said.setLevel(logging.INFO)
    try:
        with api.client(authorization=f"Bearer {KEY}") as http:
            answer = http.get("/api/v1/jobs/%ED%B3%A9x")  # half a character
        until(lambda: '"status"' in lines.getvalue())  # it is written after the answer has gone
    finally:
        said.removeHandler(handler)
        said.setLevel(before)
    (line,) = [json.loads(line) for line in lines.getvalue().splitlines() if '"status"' in line]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["method"], line["status"], line["level"]) == ("GET", 400, "info")
    assert line["path"].startswith("/api/v1/jobs/") and line["seconds"] >= 0


def test_a_failure_is_one_line_too_and_keeps_its_traceback() -> None:
    formatter = JsonLines()
    inside = REQUEST_ID.set("req_1")
    try:
        raise ValueError("line one\nline two \ud800")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "%s failed", ("it",), sys.exc_info())
        record.__dict__[FIELDS] = {"status": 500}
        text = formatter.format(record)
    finally:
        REQUEST_ID.reset(inside)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["message"], line["request_id"], line["status"]) == ("it failed", "req_1", 500)
    assert "ValueError: line one\nline two" in line["traceback"]


@pytest.mark.parametrize("form", ["plain", "json"])
def test_others_are_heard_from_warnings_on(form: str) -> None:
    root, own = logging.getLogger(), logging.getLogger("persona_steering")
    handlers, level, own_level = root.handlers[:], root.level, own.level
    root.handlers.clear()
    stream = io.StringIO()
    try:
        set_up_logging(stream, form=form, level=logging.INFO)  # type: ignore[arg-type]
        logging.getLogger("persona_steering.server").info("own")
        logging.getLogger("elsewhere").info("quiet")
        logging.getLogger("elsewhere").warning("loud")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        own.setLevel(own_level)
    lines = stream.getvalue().splitlines()
    assert [("own" in line, "loud" in line) for line in lines] == [(True, False), (False, True)]
    assert all(line.startswith("{") == (form == "json") for line in lines)
