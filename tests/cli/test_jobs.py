"""Long work with a running server: commands become its jobs, and `jobs` shows and steers them, also without it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from tests.cli.conftest import Cli, make_calibration, make_vector
from tests.engine.create_persona import EFFORT
from tests.server.api import Api
from tests.server.found import found_server

from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.cli.context import Session
from persona_steering.cli.create_there import Asked, show_made
from persona_steering.cli.job_shown import error_of_job
from persona_steering.engine import create
from persona_steering.errors import ModelError, PersonaSteeringError, QualityError
from persona_steering.server.stores.database import Database, database_file
from persona_steering.server.stores.job_models import Job, JobError
from persona_steering.server.stores.jobs import JobStore

FEW = ("--questions", "4", "--max-new-tokens", "6", "--raw")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with found_server(tmp_path_factory.mktemp("served"), key=None) as api:
        prompts = ("You are a bard who rhymes.", "Speak in verses, as a bard does.")
        model = api.serving.manager.model
        vector = make_vector(model, "bard", calibration=make_calibration(), system_prompts=prompts)
        api.state.manager().store.save(vector)
        yield api


@pytest.fixture
def served(api: Api, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The command line in the workspace that is served; a model that is loaded here fails the test."""
    monkeypatch.setenv("PERSONA_STEER_HOME", str(api.state.config.vectors_dir.parent.parent))
    monkeypatch.setitem(create.EFFORTS, "quick", EFFORT)

    def refuse(*arguments: object) -> None:
        raise ModelError("a model was loaded here.")

    whole = ModelWrapper.__init__

    def given(self: ModelWrapper, *arguments: object, **more: object) -> None:
        whole(self, *arguments, **more) if more.get("backend") else refuse()  # type: ignore[arg-type]

    monkeypatch.setattr(ModelWrapper, "__init__", given)
    return api


def until(reached: object, seconds: float = 60) -> None:
    """Waits. Fails when it is not so after a while."""
    for _ in range(int(seconds / 0.02)):
        if reached():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def test_create_is_a_job_of_the_server_and_shows_the_same_card(cli: Cli, served: Api) -> None:
    result = cli("create", "cook", "--from-archetype", "sage", "--quick")
    assert result.code == 0, result.err
    assert f"Using the server at {served.url}" in result.err
    assert "answers in character: 40 of 40 in " in result.err and "persona-steer generate" in result.err
    assert result.out.startswith("cook (persona) on") and "archetype:sage" in result.out
    (job,) = served.state.jobs.store.page(type="persona.create").data
    assert (job.status, job.params["archetype"]) == ("succeeded", "sage")
    again = cli("create", "cook", "--from-archetype", "sage", "--quick")
    assert again.code == 2 and "exists already" in again.err


def test_a_dry_run_is_the_servers_estimate(cli: Cli, served: Api) -> None:
    result = cli("create", "novice", "--from-archetype", "sage", "--quick", "--dry-run", "--json")
    assert result.code == 0, result.err
    assert result.data["answers"] > 0 and result.data["phases"]["persona"] == 40


def test_a_sweep_is_a_job_whose_result_is_shown_and_fetched(cli: Cli, served: Api, tmp_path: Path) -> None:
    asked = ("sweep", "bard", "--from", "0", "--to", "1", "--points", "2", *FEW)
    result = cli(*asked, "--out", str(tmp_path / "out"))
    assert result.code == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines()] == ["strength", "0", "1"]
    assert "<svg" in (tmp_path / "out" / "report.html").read_text() and (tmp_path / "out" / "sweep.json").is_file()
    told = cli(*asked, "--json")
    assert told.code == 0 and told.data["report"].startswith(f"{served.url}/api/v1/runs/run_")
    assert [point["strength"] for point in told.data["points"]] == [0, 1]


def test_a_detached_job_is_listed_watched_and_logged(cli: Cli, served: Api) -> None:
    detached = cli("sweep", "bard", "--from", "0", "--to", "2", "--points", "2", *FEW, "--detach", "-q")
    identifier = detached.out.strip()
    assert detached.code == 0 and identifier.startswith("job_")
    watched = cli("jobs", "watch", identifier)
    assert watched.code == 0 and watched.out == f"{identifier}  sweep bard  succeeded\n", watched.err
    assert cli("jobs", "watch", identifier, "--json").data["status"] == "succeeded"
    listed = cli("jobs", "list", "--type", "sweep")
    assert listed.out.splitlines()[0].startswith("job ") and identifier in listed.out
    assert cli("jobs", "list", "-n", "1", "--json").data[0]["id"] == identifier
    logged = cli("jobs", "logs", identifier)
    said = [line.split("  ", 1)[1] for line in logged.out.splitlines()]
    assert said[:2] == ["queued", "running"] and said[-1] == "succeeded" and any("of" in line for line in said)
    assert cli("jobs", "logs", identifier, "--json").data[-1]["data"] == {"status": "succeeded"}


def test_what_a_server_refuses_is_no_job(cli: Cli, served: Api) -> None:
    assert cli("sweep", "nobody", *FEW).code == 4
    assert cli("jobs", "watch", "job_1").code == 2
    assert cli("jobs", "cancel", "job_01J8Z3Q4R5S6T7V8W9X0Y1Z2A3").code == 4
    assert cli("jobs", "list", "--status", "failed").err.strip() == "There are none of these."


def test_what_a_server_of_another_store_has_made_is_shown_as_it_tells(
    served: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    with click.Context(click.Command("create")):
        session = Session(server=served.url, local=False)
        assert session.joined is not None and session.joined.is_here
        show_made(session, replace(session.joined, is_here=False), Asked("persona", "bard", {}))
    shown = capsys.readouterr().out
    assert shown.startswith(f"bard (persona) on {served.url}") and "status" in shown


def test_ctrl_c_cancels_the_job_and_says_how_it_goes_on(cli: Cli, served: Api) -> None:
    store = served.state.jobs.store

    def interrupt() -> None:
        until(lambda: any(job.progress and job.progress.done for job in store.unfinished()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = cli("create", "monk", "--from-archetype", "sage", "--thorough")
    thread.join()
    assert result.code == 130, result.err
    (job,) = [one for one in store.page(type="persona.create").data if one.subject and one.subject.name == "monk"]
    assert f"Go on with: persona-steer jobs retry {job.id}" in result.err
    until(lambda: store.get(job.id).status == "cancelled")

    retried = cli("jobs", "retry", job.id, "--detach", "--json")
    assert retried.code == 0 and retried.data["status"] in ("queued", "running")
    assert cli("jobs", "cancel", job.id).code == 0
    until(lambda: store.get(job.id).status == "cancelled")
    assert cli("jobs", "cancel", job.id).code == 2


def test_detach_needs_a_server(cli: Cli, home: Path) -> None:
    result = cli("create", "cook", "--from-archetype", "sage", "--detach")
    assert result.code == 2 and "--detach needs a running server" in result.err


def test_without_a_server_the_workspaces_own_list_is_read_and_changed(cli: Cli, home: Path) -> None:
    assert cli("jobs", "list").err.strip() == "There are no jobs."
    database = Database(database_file(home / "data"))
    store = JobStore(database)
    waiting, broken = store.add("sweep", {"name": "sage"}), store.add("card", {"name": "sage"})
    store.begin_next()
    store.finish(waiting.id, "failed", error=JobError(type="QualityError", message="nothing to compare."))
    database.close()

    assert [job["id"] for job in cli("jobs", "list", "--json").data] == [broken.id, waiting.id]
    watched = cli("jobs", "watch", waiting.id)
    assert watched.code == QualityError.exit_code and "nothing to compare" in watched.err
    assert cli("jobs", "watch", broken.id).code == 5
    retried = cli("jobs", "retry", waiting.id)
    assert retried.code == 0 and "with the next persona-steer serve" in retried.err
    assert cli("jobs", "cancel", broken.id).out.strip().endswith("cancelled")
    assert "cancelled" in cli("jobs", "logs", broken.id).out


def test_what_a_job_failed_with_is_the_error_that_it_would_have_been_here() -> None:
    job = Job(id="job_1", type="sweep", status="failed", params={}, created_at=0, queued_at=0)
    known = error_of_job(JobError(type="QualityError", message="It is weak.", hint="Ask more."), job)
    assert isinstance(known, QualityError) and known.hint.startswith("Ask more. Go on with: persona-steer jobs retry")
    for strange in ("internal", "os", "nearest", "ServerRefusalError"):
        assert type(error_of_job(JobError(type=strange, message="No."), job)) is PersonaSteeringError
