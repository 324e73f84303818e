"""Measurements that are asked for over HTTP, and what they came to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.server.api import MODEL, Api, make_state, running
from tests.server.listener import listening

from persona_steering.evaluation.layers import LayerScan
from persona_steering.evaluation.similarity import Similarity
from persona_steering.evaluation.sweep import Sweep
from persona_steering.server.door.security import Door
from persona_steering.server.ids import new_id

SMALL = {"questions": 2, "max_new_tokens": 4}
UNIT = {"layers": [1], "dose": 0.2, "safe": False}  # a random model's calibration means nothing: say what 1.0 is
SWEEP = {"name": "sage", "strengths": [0, 1], "controls": 1, **UNIT, **SMALL}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running(make_state(tmp_path_factory.mktemp("runs")), Door.at("127.0.0.1")) as api:
        yield api


@pytest.fixture(scope="module")
def http(api: Api) -> Iterator[httpx2.Client]:
    with api.client() as client:
        yield client


def measured(api: Api, http: httpx2.Client, path: str, body: dict[str, Any]) -> str:
    """The run that a measurement ends with."""
    accepted = http.post(f"/api/v1/{path}", json=body)
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["location"] == f"/api/v1/jobs/{accepted.json()['id']}"
    with listening(api, f"{accepted.headers['location']}/events") as events:
        done = [event for event in events if event.name in ("done", "error")]
    assert done[-1].name == "done", done
    run: str = done[-1].data["data"]["run_id"]
    return run


@pytest.fixture(scope="module")
def sweep(api: Api, http: httpx2.Client) -> str:
    return measured(api, http, "sweeps", SWEEP)


def newest_job(api: Api) -> str | None:
    """An earlier test's job may still be telling of its end; another job has another name."""
    return api.state.jobs.store.page().first_id


def test_the_numbers_of_a_sweep_are_those_on_disk(sweep: str, api: Api, http: httpx2.Client) -> None:
    run = http.get(f"/api/v1/runs/{sweep}").json()
    assert (run["kind"], run["name"], run["has_data"], run["has_report"]) == ("sweep", "sage", True, True)
    data = http.get(f"/api/v1/runs/{sweep}/data").json()
    kept = api.state.runs.get(sweep)
    assert kept.data is not None
    on_disk = Sweep.model_validate_json((api.state.config.runs_dir / kept.folder / kept.data).read_bytes())
    assert (data["kind"], Sweep.model_validate(data["result"])) == ("sweep", on_disk)
    assert [point["strength"] for point in data["result"]["points"]] == [0, 1]


def test_the_answers_behind_a_point_come_in_pages(sweep: str, http: httpx2.Client) -> None:
    path = f"/api/v1/runs/{sweep}/answers"
    everything = http.get(path, params={"limit": 100}).json()["data"]
    assert len({answer["id"] for answer in everything}) == len(everything) == 2 * 2 * 2, "points, sides, questions"
    point = http.get(path, params={"point": 1}).json()["data"]
    assert {(answer["point"], answer["strength"]) for answer in point} == {(1, 1.0)}
    assert [answer["control"] for answer in point] == [False, False, True, True]
    first = http.get(path, params={"limit": 3}).json()
    rest = http.get(path, params={"limit": 100, "after": first["last_id"]}).json()
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"] + rest["data"] == everything
    for params, status in (({"point": 2}, 404), ({"after": "no"}, 400), ({"point": -1}, 400)):
        assert http.get(path, params=params).status_code == status


def test_a_report_is_a_page_that_can_ask_this_server_nothing(sweep: str, http: httpx2.Client) -> None:
    page = http.get(f"/api/v1/runs/{sweep}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "<svg" in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;") and "default-src 'none'" in policy
    assert "allow-same-origin" not in policy and "connect-src" not in policy


def test_nothing_of_a_measurement_tells_where_the_model_lies(sweep: str, api: Api, http: httpx2.Client) -> None:
    similar = measured(api, http, "similarities", {"names": ["sage", "pirate"]})
    folder = str(Path(api.state.config.model.name.removeprefix("hf:")).parent)
    for path in ("jobs", *(f"runs/{run}{part}" for run in (sweep, similar) for part in ("", "/data", "/report"))):
        assert folder not in http.get(f"/api/v1/{path}").text, path
    assert {job["model"]["id"] for job in http.get("/api/v1/jobs").json()["data"]} == {MODEL}
    assert MODEL in http.get(f"/api/v1/runs/{sweep}/report").text


def test_runs_are_listed_by_kind_and_name(sweep: str, http: httpx2.Client) -> None:
    assert [run["id"] for run in http.get("/api/v1/sweeps", params={"name": "sage"}).json()["data"]] == [sweep]
    assert sweep in [run["id"] for run in http.get("/api/v1/runs", params={"kind": "sweep"}).json()["data"]]
    assert http.get("/api/v1/sweeps", params={"name": "pirate"}).json()["data"] == []


def test_layers_cards_and_similarities_have_numbers_of_their_own(api: Api, http: httpx2.Client) -> None:
    layers = measured(api, http, "layers", {"name": "sage", "layers": [1], "dose": 0.2, "held_out": 2, **SMALL})
    found = http.get(f"/api/v1/runs/{layers}/data").json()
    assert (found["kind"], len(LayerScan.model_validate(found["result"]).rows)) == ("layers", 1)
    answers = http.get(f"/api/v1/runs/{layers}/answers").json()["data"]
    assert {(answer["layer"], answer["strength"]) for answer in answers} == {(1, None)}
    body = {"name": "sage", "held_out": 2, "controls": 2, "shuffles": 2, **UNIT, **SMALL}
    card = http.get(f"/api/v1/runs/{measured(api, http, 'cards', body)}/data").json()
    assert (card["kind"], card["result"]["layers"]) == ("card", [1])
    similar = measured(api, http, "similarities", {"names": ["sage", "pirate"]})
    found = http.get(f"/api/v1/runs/{similar}/data").json()
    assert set(Similarity.model_validate(found["result"]).names) == {"sage", "pirate"}
    refused = http.get(f"/api/v1/runs/{similar}/answers")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")


def test_a_result_that_was_deleted_from_the_disk_is_not_found(api: Api, http: httpx2.Client) -> None:
    run = measured(api, http, "similarities", {"names": ["sage", "calm"]})
    kept = api.state.runs.get(run)
    for file in (api.state.config.runs_dir / kept.folder).iterdir():
        file.unlink()
    for part in ("data", "report"):
        gone = http.get(f"/api/v1/runs/{run}/{part}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
        assert str(api.state.config.runs_dir) not in gone.text
    assert http.get(f"/api/v1/runs/{new_id('run')}/data").status_code == 404


def test_a_dry_run_measures_how_long_it_would_take_and_begins_nothing(api: Api, http: httpx2.Client) -> None:
    before = newest_job(api)
    found = http.post("/api/v1/sweeps", params={"dry_run": True}, json=SWEEP | {"strengths": [0, 1, 2]})
    assert (found.status_code, "location" in found.headers) == (200, False)
    assert found.json()["phases"] == {"reference": 4, "sweep": 8}
    assert found.json()["seconds"] > 0
    assert newest_job(api) == before


def test_the_same_key_begins_one_job(api: Api, http: httpx2.Client) -> None:
    ask = {"json": {"names": ["sage", "raw"]}, "headers": {"Idempotency-Key": "once"}}
    first, second = (http.post("/api/v1/similarities", **ask) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("sweeps", {"name": "nobody"}, 404, "nobody"),
        ("sweeps", {"name": "../sage"}, 400, "name"),
        ("sweeps", {"name": "sage", "strengths": [1, 0]}, 400, "ascend"),
        ("sweeps", {"name": "sage", "strenghts": [0, 1]}, 400, "Did you mean 'strengths'?"),
        ("layers", {"name": "sage", "layers": [99]}, 400, "99"),
        ("cards", {"name": "sage", "controls": 1}, 400, "controls"),
        ("cards", {"name": "sage", "max_new_tokens": 3}, 400, "max_new_tokens"),
        ("sweeps", {"name": "sage", "dose": 0.2}, 400, "layers"),
        ("similarities", {"names": ["sage"]}, 400, "vector"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_there_is_a_job(
    path: str, body: dict[str, Any], status: int, said: str, api: Api, http: httpx2.Client
) -> None:
    before = newest_job(api)
    refused = http.post(f"/api/v1/{path}", json=body)
    assert (refused.status_code, said in refused.json()["error"]["message"]) == (status, True), refused.text
    assert newest_job(api) == before
