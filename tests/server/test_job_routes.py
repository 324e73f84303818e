"""Jobs over HTTP, and the events that tell of them and of everything else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.api import Api, make_state, running
from tests.server.counting import Counting
from tests.server.listener import Event, listening

from persona_steering.server.door.security import Door
from persona_steering.server.feeds.feed import ConversationChange, LibraryChange
from persona_steering.server.ids import new_id
from persona_steering.server.jobs.use_cases import JOBS

LONG = 60  # seconds; nothing here takes as long, and a test that hangs fails
counting = Counting()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("persona_steering.server.state.JOBS", {**JOBS, counting.name: counting})
        state = make_state(tmp_path_factory.mktemp("jobs"))
        with running(state, Door.at("127.0.0.1")) as api:
            yield api


@pytest.fixture
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


@pytest.fixture
def gate() -> Iterator[None]:
    """Holds jobs in the middle of their first step until `counting.gate` is set."""
    counting.gate.clear()
    counting.in_step.clear()
    yield
    counting.gate.set()


def begun(api: Api, **params: Any) -> str:
    """A counting job, by its id."""
    return api.state.jobs.submit("count", params).id


def ended(api: Api, job: str) -> list[Event]:
    """All events of a job, once it has ended."""
    with listening(api, f"/api/v1/jobs/{job}/events") as events:
        return list(events)


def wait_for_readers(api: Api, count: int) -> None:
    for _ in range(500):
        if api.state.feed.readers == count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{api.state.feed.readers} are listening, not {count}")


# -- one job -----------------------------------------------------------------------------------------------------------


def test_a_stream_tells_the_whole_story_of_a_job_and_then_ends(api: Api) -> None:
    job = begun(api, to=2)
    events = ended(api, job)
    assert [event.name for event in events] == [
        *("state", "state", "progress"),
        *("progress", "sample", "progress", "sample"),
        *("log", "progress", "done", "state"),
    ]
    assert all(event.data["type"] == event.name and event.data["job_id"] == job for event in events)
    assert [int(event.id) for event in events] == [event.data["seq"] for event in events]
    samples = [event.data["data"] for event in events if event.name == "sample"]
    assert samples[0] == {"phase": "counting", "question": "What is 1?", "answer": "This is 1."}
    assert events[-1].data["data"] == {"status": "succeeded"}


def test_who_comes_back_gets_what_came_after_the_last_event_seen(api: Api, http: httpx2.Client) -> None:
    job = begun(api)
    everything = ended(api, job)
    seen = everything[3].id
    with listening(api, f"/api/v1/jobs/{job}/events", **{"Last-Event-ID": seen}) as events:
        assert list(events) == everything[4:]
    with listening(api, f"/api/v1/jobs/{job}/events?after={seen}") as events:
        assert list(events) == everything[4:]
    log = http.get(f"/api/v1/jobs/{job}/log", params={"after": seen, "limit": 2}).json()
    assert (log["data"], log["has_more"]) == ([event.data for event in everything[4:6]], True)
    for wrong in ("x", "-1", "9" * 20):
        refused = http.get(f"/api/v1/jobs/{job}/events", headers={"Last-Event-ID": wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Last-Event-ID")


def test_events_come_while_the_job_runs(api: Api, gate: None) -> None:
    job = begun(api, to=1)
    with listening(api, f"/api/v1/jobs/{job}/events") as events:
        while next(events).name != "progress":
            pass
        counting.gate.set()
        assert [event.name for event in events][-1] == "state"


def test_a_job_is_cancelled_and_tried_again(api: Api, http: httpx2.Client, gate: None) -> None:
    job = begun(api)
    assert counting.in_step.wait(LONG)
    asked = http.post(f"/api/v1/jobs/{job}/cancel", json={})
    assert (asked.status_code, asked.json()["cancel_requested"]) == (200, True)
    counting.gate.set()
    ended(api, job)
    assert http.get(f"/api/v1/jobs/{job}").json()["status"] == "cancelled"
    again = http.post(f"/api/v1/jobs/{job}/cancel", json={})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    retried = http.post(f"/api/v1/jobs/{job}/retry", json={})
    assert (retried.status_code, retried.json()["status"]) == (202, "queued")
    ended(api, job)
    done = http.get(f"/api/v1/jobs/{job}").json()
    assert (done["status"], done["attempts"], done["result"]["counted"]) == ("succeeded", 2, 3)


def test_jobs_are_listed_by_state_and_type_in_pages(api: Api, http: httpx2.Client) -> None:
    made = [begun(api, name=f"listed{i}") for i in range(3)]
    for job in made:
        ended(api, job)
    first = http.get("/api/v1/jobs", params={"type": "count", "status": "succeeded", "limit": 2}).json()
    assert [job["id"] for job in first["data"]] == [made[2], made[1]]
    second = http.get("/api/v1/jobs", params={"type": "count", "limit": 1, "after": first["last_id"]}).json()
    assert [job["id"] for job in second["data"]] == [made[0]]
    assert http.get("/api/v1/jobs", params={"type": "sweep"}).json()["data"] == []
    wrong = http.get("/api/v1/jobs", params={"status": "lost"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "status")


def test_nothing_that_a_job_says_tells_of_the_machine(api: Api, http: httpx2.Client) -> None:
    job = begun(api, fail="disk")
    told = str(ended(api, job))
    shown = http.get(f"/api/v1/jobs/{job}").json()
    assert shown["error"] == {"type": "StorageError", "message": "x.bin was not written.", "hint": "Look at place."}
    assert "secret" not in told + http.get(f"/api/v1/jobs/{job}/log").text + http.get("/api/v1/jobs").text
    assert "/secret/place" in str(api.state.jobs.store.get(job).error), "its owner can look it up"


@pytest.mark.parametrize("path", ["", "/events", "/log"])
def test_an_unknown_job_is_refused_with_a_status(path: str, http: httpx2.Client) -> None:
    unknown = http.get(f"/api/v1/jobs/{new_id('job')}{path}")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    assert http.get(f"/api/v1/jobs/1{path}").status_code == 400


# -- everything --------------------------------------------------------------------------------------------------------


def test_the_feed_begins_with_the_model_and_tells_of_jobs_vectors_and_conversations(api: Api) -> None:
    with listening(api, "/api/v1/events") as events:
        first = next(events)
        assert (first.name, first.data["state"], first.id) == ("model", "ready", "")
        api.state.feed.tell(ConversationChange(id="conv_1", change="made"))
        talk = next(events)
        assert (talk.name, talk.data["id"], talk.data["change"]) == ("conversation", "conv_1", "made")
        job = begun(api, to=1)
        last = next(events)
        assert (last.name, last.data["job_id"]) == ("job", job)
        api.state.feed.tell(LibraryChange(kind="persona", name="sage", change="deleted"))
        while (event := next(events)).name == "job":
            last = event
        assert (event.name, event.data["name"], event.data["change"]) == ("library", "sage", "deleted")
    ended(api, job)
    with listening(api, "/api/v1/events", **{"Last-Event-ID": last.id}) as events:
        assert next(events).name == "model"
        missed = next(events)
        assert (missed.name, int(missed.id)) == ("job", int(last.id) + 1)


def test_the_feed_tells_of_presets_and_conversations_that_somebody_else_changes(api: Api, http: httpx2.Client) -> None:
    with listening(api, "/api/v1/events") as events:
        next(events)
        assert http.post("/api/v1/presets", json={"name": "warm", "steering": "sage:0.5"}).status_code == 201
        assert http.patch("/api/v1/presets/warm", json={"description": "kind"}).status_code == 200
        assert http.delete("/api/v1/presets/warm").status_code == 204
        talk = http.post("/api/v1/conversations", json={}).json()["id"]
        told = [next(events) for _ in range(4)]
    assert [(event.data["kind"], event.data["name"], event.data["change"]) for event in told[:3]] == [
        ("preset", "warm", change) for change in ("made", "changed", "deleted")
    ]
    assert (told[3].name, told[3].data["id"], told[3].data["change"]) == ("conversation", talk, "made")


def test_too_many_listeners_are_refused_and_whoever_leaves_makes_room(
    api: Api, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_readers(api, 0)
    monkeypatch.setattr(api.state.feed, "_most", 1)
    with listening(api, "/api/v1/events") as events:
        next(events)
        refused = http.get("/api/v1/events")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
        assert int(refused.headers["retry-after"]) > 0
    wait_for_readers(api, 0)
    with listening(api, "/api/v1/events") as events:
        assert next(events).name == "model"


def test_a_server_that_stops_lets_its_listeners_go(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    with running(state, Door.at("127.0.0.1")) as api, listening(api, "/api/v1/events") as events:
        next(events)
        state.end_feeds()
        assert list(events) == []
        with api.client() as http:
            assert http.get("/api/v1/events").status_code == 503
