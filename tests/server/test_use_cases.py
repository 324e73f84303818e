"""What the engine makes and measures, as jobs on a tiny model."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.backends.tiny import open_tiny, save_tiny
from tests.engine.create_persona import EFFORT, PERSONA
from tests.server.counting import make_runner
from tests.server.creating_server import PARAMS, settings

from persona_steering.backends.base import Completion, Request, Sampling, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config
from persona_steering.engine.create import EFFORTS, Creator
from persona_steering.engine.estimate import Speed
from persona_steering.errors import BusyError, NotFoundError, PersonaSteeringError, UsageError
from persona_steering.personas import Persona
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.jobs import runner as jobs_runner
from persona_steering.server.jobs.runner import JobRunner
from persona_steering.server.jobs.use_cases import JOBS
from persona_steering.server.model.scheduler import Scheduler
from persona_steering.server.stores.database import Database, database_file
from persona_steering.server.stores.job_models import Job, JobModel
from persona_steering.server.stores.runs import RunStore
from persona_steering.vectors import SteeringVector

UNIT = {"layers": [1, 2], "dose": 0.2, "safe": False}  # a random model's vectors are weak: say what 1.0 is
SMALL = {"questions": 2, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[TransformersBackend]:
    with open_tiny(folder) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def small_effort() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "quick", EFFORT)
        yield


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def database(workspace: Path) -> Iterator[Database]:
    opened = Database(database_file(workspace))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def runner(backend: TransformersBackend, folder: Path, workspace: Path, database: Database) -> Iterator[JobRunner]:
    """A runner with the persona cook made in it."""
    made = make_runner(database, *JOBS.values(), config=settings(str(folder), workspace), open_backend=lambda: backend)
    made.start()
    finished(made, "persona.create", PARAMS)
    yield made
    assert made.close(60)


def finished(runner: JobRunner, type: str, params: dict[str, Any]) -> Job:
    job = runner.submit(type, params)
    for _ in runner.store.follow(job.id):
        pass
    done = runner.store.get(job.id)
    assert done.error is None, done.error
    return done


def stored(config: Config, backend: TransformersBackend, name: str = PERSONA.name) -> SteeringVector:
    return PersonaManager(config, model=backend.identity).load(name)


@pytest.fixture(scope="module")
def plain(folder: Path, backend: TransformersBackend, tmp_path_factory: pytest.TempPathFactory) -> SteeringVector:
    """The vector as the command line makes it."""
    config = settings(str(folder), tmp_path_factory.mktemp("plain"))
    Creator(ModelWrapper(config, backend=backend), PersonaManager(config), config, effort=EFFORT).create(PERSONA)
    return stored(config, backend)


def killed(folder: Path, workspace: Path, die_at: str) -> None:
    command = [sys.executable, "-m", "tests.server.creating_server", str(folder), str(workspace), die_at]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr


def test_a_killed_creation_goes_on_and_ends_with_the_vector_of_the_command_line(
    folder: Path, backend: TransformersBackend, plain: SteeringVector, tmp_path: Path
) -> None:
    killed(folder, tmp_path / "killed", "persona:32")
    config = settings(str(folder), tmp_path / "killed")
    batches = {path: path.stat().st_mtime_ns for path in config.runs_dir.rglob("*.safetensors")}
    assert batches
    database = Database(database_file(tmp_path / "killed"))
    runner = make_runner(database, *JOBS.values(), config=config, open_backend=lambda: backend)
    (left,) = runner.start()
    for _ in runner.store.follow(left.id):
        pass
    done = runner.store.get(left.id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    assert {path: path.stat().st_mtime_ns for path in batches} == batches, "no batch was made twice"
    runner.close(60)
    database.close()

    assert stored(config, backend).digest == plain.digest


def test_chats_are_answered_while_a_job_runs_and_change_nothing_in_it(
    folder: Path, backend: TransformersBackend, plain: SteeringVector, tmp_path: Path
) -> None:
    scheduler = Scheduler(backend, patience=0.2)
    scheduler.start()
    database, config = Database(database_file(tmp_path)), settings(str(folder), tmp_path)
    runner = make_runner(database, *JOBS.values(), config=config, open_backend=lambda: backend, lane=scheduler)
    job = runner.submit("persona.create", PARAMS)
    runner.start()
    chats = 0
    for event in runner.store.follow(job.id):
        if event.type == "sample" and chats < 4:
            *_, answer = scheduler.submit(Request(conversation("hello"), sampling=Sampling(max_new_tokens=4)))
            assert isinstance(answer, Completion)
            chats += 1
    assert runner.store.get(job.id).status == "succeeded"
    assert chats == 4
    assert stored(config, backend).digest == plain.digest
    assert runner.close(60)
    scheduler.close(60)
    database.close()


def test_a_creation_tells_its_phases_and_shows_answers_as_they_come(runner: JobRunner) -> None:
    (job,) = runner.store.page(type="persona.create").data
    assert job.result is not None and job.progress is not None
    assert (job.result["name"], job.result["kind"]) == ("cook", "persona")
    assert {"baseline", "safe", "unsafe", "persona", "bands", "confirm"} <= set(job.progress.phases)
    events = runner.store.events(job_id=job.id)
    assert any(
        event.type == "sample" and event.data["phase"] == "persona" and event.data["answer"] and event.data["question"]
        for event in events
    )
    rates = [event.data["rate"] for event in events if event.type == "progress" and event.data["rate"]]
    assert rates


def test_the_result_of_a_creation_is_in_the_index_of_runs(
    runner: JobRunner, workspace: Path, database: Database
) -> None:
    (record,) = RunStore(database).page(kind="persona").data
    assert (workspace / "runs" / record.folder / "plan.json").is_file()
    (job,) = runner.store.page(type="persona.create").data
    assert (record.name, record.job_id) == ("cook", job.id)
    assert job.result is not None and job.result["run_id"] == record.id


@pytest.mark.parametrize(
    ("type", "params"),
    [
        ("sweep", {"strengths": [0, 1], "controls": 1, **UNIT, **SMALL}),
        ("layers", {"layers": [1], "dose": 0.2, "held_out": 2, **SMALL}),
        ("card", {"held_out": 2, "controls": 2, "shuffles": 2, **UNIT, **SMALL}),
    ],
)
def test_a_measurement_ends_with_its_data_and_report_on_disk(
    type: str, params: dict[str, Any], runner: JobRunner, workspace: Path, database: Database
) -> None:
    done = finished(runner, type, {"name": "cook", **params})
    assert done.result is not None
    record = RunStore(database).get(str(done.result["run_id"]))
    assert (record.kind, record.name, record.job_id) == (type, "cook", done.id)
    files = workspace / "runs" / record.folder
    assert record.data is not None and (files / record.data).is_file()
    assert record.report is not None and (files / record.report).is_file()


def test_a_trait_an_axis_and_a_comparison_are_jobs_too(runner: JobRunner, database: Database) -> None:
    with pytest.raises(UsageError, match="needs 2 personas"):
        runner.submit("axes.extract", {"which": "assistant"})
    trait = finished(runner, "trait.create", {"word": "silly", "effort": "quick"})
    assert trait.result is not None and trait.result["name"] == "silly"
    axes = finished(runner, "axes.extract", {"which": "both", "effort": "quick"})
    assert axes.result is not None
    made = axes.result["axes"]
    assert isinstance(made, list) and len(made) == 1, "one persona makes no assistant axis"
    logged = [event.data for event in runner.store.events(job_id=axes.id) if event.type == "log"]
    assert "needs 2 personas" in str(logged)
    compared = finished(runner, "similarity", {"names": ["cook", "silly"]})
    assert compared.result is not None and compared.result["names"] == ["cook", "silly"]
    assert RunStore(database).page(kind="similarity").data[0].report == "report.html"


def test_an_estimate_counts_what_is_missing_and_makes_nothing(runner: JobRunner, workspace: Path) -> None:
    before = sorted(workspace.rglob("*.safetensors"))
    found = runner.estimate("persona.create", {**PARAMS, "name": "baker"})
    assert found.phases["persona"] == len(PERSONA.system_prompts) * (EFFORT.questions or 0)
    assert "baseline" not in found.phases, "it is there already"
    assert found.answers == sum(found.phases.values())
    assert found.seconds > 0 and found.disk_bytes > 0 and found.max_tokens > found.answers
    assert sorted(workspace.rglob("*.safetensors")) == before


def test_of_several_who_want_an_estimate_at_once_one_measures(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []

    def measure(backend: object) -> Speed:
        time.sleep(0.2)
        measured.append(1.0)
        return Speed(prefill=1.0, step=1.0, score=1.0)

    monkeypatch.setattr(jobs_runner, "measure_speed", measure)
    monkeypatch.setattr(runner, "_speeds", {})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: runner.estimate("persona.create", {**PARAMS, "name": "baker"}), range(4)))
    assert len(measured) == 1
    assert len({one.seconds for one in found}) == 1


def test_an_estimate_for_a_description_has_nothing_written_yet(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Creator, "propose", None)
    found = runner.estimate("persona.create", {"name": "wizard", "description": "a grumpy wizard", "effort": "quick"})
    assert found.phases["persona"] > 0


def test_a_description_has_its_prompts_written_before_the_vector_is_made(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def propose(creator: Creator, name: str, description: str, *, prompts: int) -> Persona:
        assert (description, prompts) == ("a grumpy wizard", 2)
        return PERSONA.model_copy(update={"name": name})

    monkeypatch.setattr(Creator, "propose", propose)
    params = {"name": "wizard", "description": "a grumpy wizard", "prompts": 2, "effort": "quick"}
    done = finished(runner, "persona.create", params)
    assert done.result is not None and done.result["name"] == "wizard"


@pytest.mark.parametrize(
    ("type", "params", "error", "said"),
    [
        ("persona.create", PARAMS, UsageError, "exists already"),
        ("persona.create", {"name": "../up", "archetype": "sage"}, UsageError, "name"),
        ("persona.create", {"name": "new"}, UsageError, "one of archetype"),
        ("persona.create", {"name": "new", "archetype": "sage", "system_prompts": ["x" * 20]}, UsageError, "one of"),
        ("persona.create", {"name": "new", "archetype": "saeg"}, NotFoundError, "sage"),
        ("persona.create", {"name": "new", "description": " "}, UsageError, "empty"),
        ("persona.create", {"name": "new", "system_prompts": ["short"]}, UsageError, "system_prompts"),
        ("persona.create", {"name": "new", "archetype": "sage", "effort": "huge"}, UsageError, "effort"),
        ("trait.create", {"word": "/etc/traits.json"}, UsageError, "not a word"),
        ("trait.create", {"word": "calm", "opposite": "calm"}, UsageError, "same word"),
        ("axes.extract", {"which": "assistnat"}, UsageError, "which"),
        ("sweep", {"name": "coock"}, NotFoundError, "cook"),
        ("sweep", {"name": "cook", "strengths": [1, 0]}, UsageError, "ascend"),
        ("sweep", {"name": "cook", "strengths": [0, 5]}, UsageError, "strengths"),
        ("sweep", {"name": "cook", "dose": 0.2}, UsageError, "without layers"),
        ("layers", {"name": "cook", "layers": [99]}, PersonaSteeringError, "99"),
        ("card", {"name": "cook", "controls": 1}, UsageError, "controls"),
        ("similarity", {"names": ["cook", "silyl"]}, NotFoundError, "silyl"),
    ],
)
def test_what_cannot_be_done_is_refused_before_there_is_a_job(
    type: str, params: dict[str, Any], error: type[PersonaSteeringError], said: str, runner: JobRunner
) -> None:
    count = runner.store.last_seq
    for ask in (runner.submit, runner.estimate):
        with pytest.raises(error, match=said):
            ask(type, params)
    assert runner.store.last_seq == count


def test_a_job_that_was_asked_of_another_model_is_not_run_on_this_one(
    folder: Path, backend: TransformersBackend, tmp_path: Path
) -> None:
    database = Database(database_file(tmp_path))
    runner = make_runner(database, *JOBS.values(), config=settings(str(folder), tmp_path), open_backend=lambda: backend)
    job = runner.store.add("persona.create", PARAMS, model=JobModel(id="other/model", fingerprint="f"))
    runner.start()
    for _ in runner.store.follow(job.id):
        pass
    error = runner.store.get(job.id).error
    assert error is not None and error.type == "ModelMismatchError"
    assert "'other/model'" in error.message
    assert not (tmp_path / "runs").exists()
    runner.close(60)
    database.close()


def test_while_no_model_is_loaded_nothing_is_queued(tmp_path: Path) -> None:
    def loading() -> TransformersBackend:
        raise BusyError("the model is being loaded.", hint="Try again soon.")

    database = Database(database_file(tmp_path))
    made = make_runner(database, *JOBS.values(), open_backend=loading)
    with pytest.raises(BusyError, match="being loaded"):
        made.submit("persona.create", {"name": "sage", "archetype": "sage"})
    assert made.store.page().data == []
    database.close()
