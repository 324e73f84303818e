"""Jobs: their states, their events, what survives a crash, and that chat goes first."""

from __future__ import annotations

import itertools
import logging
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.server.counting import Counting, make_runner

from persona_steering.backends.base import Progress
from persona_steering.errors import BusyError, ConflictError, NotFoundError, StorageError, UsageError
from persona_steering.server.ids import new_id
from persona_steering.server.jobs.progress import JobProgress, Meter, Planned
from persona_steering.server.jobs.runner import JobRunner
from persona_steering.server.model.lane import SoleLane
from persona_steering.server.paging import PageQuery
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database, database_file
from persona_steering.server.stores.job_models import Job, JobEvent, JobModel
from persona_steering.server.stores.job_retention import forget_events, forget_jobs
from persona_steering.server.stores.jobs import JobStore

LONG = 60  # seconds; nothing here takes as long, and a test that hangs fails


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def runner(database: Database, counting: Counting) -> Iterator[JobRunner]:
    """A runner that is started by the test, and stopped after it."""
    made = make_runner(database, counting, max_unfinished=4)
    yield made
    counting.gate.set()
    assert made.close(LONG)


def ended(runner: JobRunner, job: Job) -> Job:
    """The job when nothing more happens in it."""
    for _ in runner.store.follow(job.id):
        pass
    return runner.store.get(job.id)


def in_a_step(runner: JobRunner, counting: Counting) -> Job:
    """A job that is in the middle of its first step, and stays there until the gate is opened."""
    counting.gate.clear()
    job = runner.submit("count", {})
    runner.start()
    assert counting.in_step.wait(LONG)
    return job


def states(events: list[JobEvent]) -> list[object]:
    return [event.data["status"] for event in events if event.type == "state"]


# -- from asking to result ---------------------------------------------------------------------------------------------


def test_a_job_is_queued_runs_and_succeeds(runner: JobRunner) -> None:
    job = runner.submit("count", {"to": 3})
    assert (job.status, job.attempts, job.params["to"]) == ("queued", 0, 3)
    runner.start()
    done = ended(runner, job)
    assert (done.status, done.error, done.result) == ("succeeded", None, {"counted": 3, "attempt": 1})
    assert done.subject is not None and done.subject.name == "numbers"
    assert done.created_at <= (done.started_at or 0) <= (done.finished_at or 0)
    assert done.progress is not None
    assert (done.progress.phase, done.progress.phase_index, done.progress.phases) == (
        "checking",
        1,
        ("counting", "checking"),
    )


def test_its_events_tell_the_whole_story_in_order(runner: JobRunner) -> None:
    job = runner.submit("count", {"to": 2})
    runner.start()
    events = list(runner.store.follow(job.id))
    assert states(events) == ["queued", "running", "succeeded"]
    samples = [(event.data["question"], event.data["answer"]) for event in events if event.type == "sample"]
    assert samples == [("What is 1?", "This is 1."), ("What is 2?", "This is 2.")]
    counted = [event.data["done"] for event in events if event.type == "progress"]
    assert counted == [0, 1, 2, 1]
    assert [event.data["message"] for event in events if event.type == "log"] == ["All were counted."]
    assert [event.type for event in events[-2:]] == ["done", "state"]
    assert [event.seq for event in events] == sorted({event.seq for event in events})


def test_jobs_run_one_after_another_in_the_order_in_which_they_came(runner: JobRunner) -> None:
    jobs = [runner.submit("count", {"name": name}) for name in ("a", "b", "c")]
    runner.start()
    done = [ended(runner, job) for job in jobs]
    for before, after in itertools.pairwise(done):
        assert (before.finished_at or 0) <= (after.started_at or 0)


def test_a_refusal_comes_before_there_is_a_job(runner: JobRunner) -> None:
    for params, said in (
        ({"too": 3}, "unknown parameter 'too'"),
        ({"to": "many"}, "'to'"),
        ({"to": -1}, "below zero"),
    ):
        with pytest.raises(UsageError, match=said):
            runner.submit("count", params)
    with pytest.raises(NotFoundError) as unknown:
        runner.submit("cuont", {})
    assert "'count'" in unknown.value.hint
    assert runner.store.page().data == []


def test_a_misspelt_parameter_is_answered_with_the_nearest(runner: JobRunner) -> None:
    with pytest.raises(UsageError) as refused:
        runner.submit("count", {"nmae": "x"})
    assert "'name'" in refused.value.hint


def test_a_failure_keeps_its_reason_and_what_to_do(runner: JobRunner) -> None:
    job = runner.submit("count", {"fail": "quality"})
    runner.start()
    error = ended(runner, job).error
    assert error is not None
    assert (error.type, error.message, error.hint) == ("QualityError", "too few numbers passed.", "Count further.")
    assert runner.store.events(job_id=job.id)[-2].data == error.model_dump()


def test_an_unforeseen_failure_tells_nothing_of_the_inside_and_stops_no_other_job(
    runner: JobRunner, caplog: pytest.LogCaptureFixture
) -> None:
    broken = runner.submit("count", {"fail": "bug"})
    after = runner.submit("count", {"name": "after"})
    with caplog.at_level(logging.ERROR):
        runner.start()
        job = ended(runner, broken)
        assert ended(runner, after).status == "succeeded"
    assert job.status == "failed"
    assert job.error is not None and job.error.type == "internal"
    assert "secret" not in job.model_dump_json()
    assert "secret" in caplog.text


def test_too_many_waiting_jobs_are_refused(runner: JobRunner) -> None:
    for name in "abcd":
        runner.submit("count", {"name": name})
    with pytest.raises(BusyError, match="4 jobs"):
        runner.submit("count", {"name": "e"})


def test_two_unfinished_jobs_never_do_the_same(runner: JobRunner) -> None:
    first = runner.submit("count", {"to": 2})
    with pytest.raises(ConflictError, match=first.id):
        runner.submit("count", {"to": 3})
    runner.start()
    ended(runner, first)
    assert runner.submit("count", {"to": 3}).id != first.id


def test_the_same_key_gives_the_same_job_also_when_it_is_done(runner: JobRunner) -> None:
    first = runner.submit("count", {"to": 2}, idempotency_key="k")
    assert runner.submit("count", {"to": 2}, idempotency_key="k").id == first.id
    runner.start()
    done = ended(runner, first)
    assert runner.submit("count", {"to": 2}, idempotency_key="k") == done
    with pytest.raises(ConflictError, match="another request"):
        runner.submit("count", {"to": 3}, idempotency_key="k")
    assert len(runner.store.page().data) == 1


# -- stopping and going on ---------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_and_never_begins(runner: JobRunner) -> None:
    job, other = runner.submit("count", {}), runner.submit("count", {"name": "other"})
    assert runner.cancel(job.id).status == "cancelled"
    runner.start()
    ended(runner, other)
    assert runner.store.get(job.id).attempts == 0
    assert states(list(runner.store.follow(job.id))) == ["queued", "cancelled"]


def test_a_running_job_stops_after_the_step_it_is_in(runner: JobRunner, counting: Counting) -> None:
    job = in_a_step(runner, counting)
    asked = runner.cancel(job.id)
    assert (asked.status, asked.cancel_requested) == ("running", True)
    counting.gate.set()
    done = ended(runner, job)
    assert (done.status, done.result, done.error) == ("cancelled", None, None)
    assert done.progress is not None and done.progress.done == 0


def test_a_finished_job_cannot_be_cancelled(runner: JobRunner) -> None:
    job = runner.submit("count", {})
    runner.start()
    ended(runner, job)
    with pytest.raises(ConflictError, match="succeeded already"):
        runner.cancel(job.id)
    with pytest.raises(ConflictError, match="nothing to try again"):
        runner.retry(job.id)


def test_a_retry_goes_on_from_what_is_on_disk(runner: JobRunner, tmp_path: Path) -> None:
    file = tmp_path / "counted.txt"
    job = runner.submit("count", {"to": 3, "file": str(file), "fail": "quality"})
    runner.start()
    assert ended(runner, job).status == "failed"
    again = runner.retry(job.id)
    assert (again.status, again.error, again.finished_at) == ("queued", None, None)
    done = ended(runner, again)
    assert (done.id, done.attempts) == (job.id, 2)
    assert file.read_text().split() == ["1", "2", "3"], "no step was taken twice"
    assert states(runner.store.events(job_id=job.id)) == ["queued", "running", "failed", "queued", "running", "failed"]


def test_a_cancelled_job_can_be_tried_again(runner: JobRunner, counting: Counting) -> None:
    job = in_a_step(runner, counting)
    runner.cancel(job.id)
    counting.gate.set()
    assert ended(runner, job).status == "cancelled"
    runner.retry(job.id)
    assert ended(runner, job).status == "succeeded"


def test_stopping_the_server_interrupts_the_job_and_the_next_one_goes_on(
    database: Database, counting: Counting, tmp_path: Path
) -> None:
    first = make_runner(database, counting)
    counting.gate.clear()
    file = tmp_path / "counted.txt"
    job = first.submit("count", {"to": 3, "file": str(file)})
    first.start()
    assert counting.in_step.wait(LONG)
    threading.Timer(0.05, counting.gate.set).start()
    assert first.close(LONG)
    left = first.store.get(job.id)
    assert (left.status, left.interruptions) == ("interrupted", 0)
    second = make_runner(database, counting)
    assert [one.id for one in second.start()] == [job.id]
    assert ended(second, job).status == "succeeded"
    assert file.read_text().split() == ["1", "2", "3"]
    second.close(LONG)


def test_a_job_whose_model_is_not_loaded_fails_and_says_so(database: Database, runner: JobRunner) -> None:
    job = runner.store.add("count", {}, model=JobModel(id="other", fingerprint="f"))
    runner.start()
    error = ended(runner, job).error
    assert error is not None
    assert (error.type, error.message) == ("ModelError", "no model is loaded.")


# -- a killed server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The workspace of a server that was killed in the third of five steps."""
    command = [sys.executable, "-m", "tests.server.killed_server", str(tmp_path)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    return tmp_path


def test_after_a_kill_nothing_is_lost_and_the_job_goes_on_where_it_was(killed: Path) -> None:
    database = Database(database_file(killed))
    conversations = ConversationStore(database)
    assert conversations.interrupt_writing() == 1
    (talk,) = conversations.page().data
    assert [(node.content, node.status) for node in conversations.path(talk.id)] == [
        ("Will you remember?", "complete"),
        ("I was just", "interrupted"),
    ]
    runner = make_runner(database)
    waiting, job = runner.store.page().data
    assert (job.status, waiting.status) == ("running", "queued")
    (left,) = runner.start()
    assert (left.id, left.status, left.interruptions) == (job.id, "queued", 1)
    done = ended(runner, job)
    assert (done.status, done.result) == ("succeeded", {"counted": 5, "attempt": 2})
    assert (killed / "counted.txt").read_text().split() == ["1", "2", "3", "4", "5"]
    assert states(runner.store.events(job_id=job.id)) == [
        "queued",
        "running",
        "interrupted",
        "queued",
        "running",
        "succeeded",
    ]
    assert (done.finished_at or 0) <= (ended(runner, waiting).started_at or 0), "the older one goes first"
    assert runner.submit("count", {**done.params}, idempotency_key="once") == done
    runner.close(LONG)
    database.close()


def test_after_a_kill_the_job_shows_as_interrupted_until_it_is_retried(killed: Path) -> None:
    database = Database(database_file(killed))
    runner = make_runner(database)
    (left,) = runner.start(resume=False)
    assert left.status == "interrupted"
    runner.retry(left.id)
    assert ended(runner, left).status == "succeeded"
    runner.close(LONG)
    database.close()


def test_a_job_that_kills_the_server_again_and_again_waits_for_a_hand(database: Database) -> None:
    store = JobStore(database)
    job = store.add("count", {})
    for count in (1, 2, 3):
        store.begin_next()
        (left,) = store.recover()
        assert left.interruptions == count
    assert left.status == "interrupted"
    assert "by hand" in str(store.events(job_id=job.id)[-1].data["message"])
    assert store.requeue(job.id).interruptions == 0


def test_a_job_that_was_to_stop_when_the_server_was_killed_does_not_go_on(database: Database) -> None:
    store = JobStore(database)
    job = store.add("count", {})
    store.begin_next()
    store.request_cancel(job.id)
    assert store.recover() == []
    assert store.get(job.id).status == "cancelled"


# -- the feed of events ------------------------------------------------------------------------------------------------


def test_whoever_comes_back_gets_what_came_after_the_last_event_seen(runner: JobRunner) -> None:
    job, other = runner.submit("count", {}), runner.submit("count", {"name": "other"})
    runner.start()
    everything = list(runner.store.follow(job.id))
    ended(runner, other)
    for seen in (0, 3, len(everything)):
        after = everything[seen - 1].seq if seen else 0
        assert list(runner.store.follow(job.id, after)) == everything[seen:]
    both = runner.store.events()
    assert {event.job_id for event in both} == {job.id, other.id}
    assert runner.store.events(both[4].seq, limit=2) == both[5:7]
    assert runner.store.last_seq == both[-1].seq


def test_who_follows_a_job_hears_of_it_while_it_runs(runner: JobRunner, counting: Counting) -> None:
    job = in_a_step(runner, counting)
    feed = runner.store.follow(job.id)
    while (event := next(feed)).type != "progress":
        pass
    assert event.data["done"] == 0
    assert not runner.store.wait(runner.store.last_seq, 0.01), "nothing happens behind the gate"
    counting.gate.set()
    assert [event.type for event in feed][-1] == "state"


def test_event_numbers_go_on_when_the_database_is_opened_again(tmp_path: Path) -> None:
    file = database_file(tmp_path)
    database = Database(file)
    last = JobStore(database).last_seq
    JobStore(database).add("count", {})
    database.close()
    again = Database(file)
    assert JobStore(again).last_seq == last + 1
    again.close()


def test_the_events_of_an_unknown_job_are_refused(database: Database) -> None:
    store = JobStore(database)
    with pytest.raises(NotFoundError):
        store.events(job_id=new_id("job"))
    with pytest.raises(UsageError):
        store.get("job_1")


def test_jobs_are_listed_by_state_and_type(database: Database) -> None:
    store = JobStore(database)
    made = [store.add(kind, {}) for kind in ("a", "b", "a")]
    store.begin_next()
    assert [job.id for job in store.unfinished()] == [job.id for job in made]
    assert store.page(status="running").data == [store.get(made[0].id)]
    assert [job.id for job in store.page(PageQuery(order="asc"), type="a").data] == [made[0].id, made[2].id]
    assert store.page(status="failed").data == []


def test_only_the_newest_events_of_a_job_and_the_newest_finished_jobs_are_kept(database: Database) -> None:
    store = JobStore(database)
    finished = []
    for _ in range(3):
        job = store.add("count", {})
        store.begin_next()
        for done in range(6):
            store.note_progress(job.id, JobProgress(phase="p", phase_index=0, phases=("p",), done=done, total=6))
        finished.append(store.finish(job.id, "succeeded", result={}))
    broken = store.add("count", {})
    store.begin_next()
    store.finish(broken.id, "interrupted")
    with database.write() as connection:
        forget_events(connection, finished[-1].id, keep=2)
        forget_jobs(connection, keep=1)
    assert [job.id for job in store.page().data] == [broken.id, finished[-1].id], "what was interrupted may go on"
    assert [event.type for event in store.events(job_id=finished[-1].id)] == ["done", "state"]
    assert {event.job_id for event in store.events()} == {broken.id, finished[-1].id}


def test_whoever_listens_is_told_once_an_event_is_kept(database: Database) -> None:
    store = JobStore(database)
    seen: list[int] = []
    store.listen(lambda: seen.append(len(store.events())))
    store.add("count", {})
    store.add("count", {"name": "other"})
    assert seen == [1, 2]
    assert store.counts() == {"queued": 2}


# -- the lane and the disk ---------------------------------------------------------------------------------------------


class ChatFirst(SoleLane):
    """Notes who had a turn; the test has one too, as a chat would."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.before_job: Callable[[], None] = lambda: None

    @contextmanager
    def turn(self) -> Iterator[None]:
        self.before_job()
        with super().turn():
            self.order.append("job")
            yield


def test_a_job_asks_for_a_turn_before_every_step_and_chats_go_between(database: Database) -> None:
    lane = ChatFirst()
    lane.before_job = lambda: lane.order.append("chat")
    runner = make_runner(database, lane=lane)
    job = runner.submit("count", {"to": 3})
    runner.start()
    assert ended(runner, job).status == "succeeded"
    assert lane.order == ["chat", "job"] * 3
    runner.close(LONG)


def test_a_job_that_waits_for_its_turn_can_be_cancelled(database: Database) -> None:
    lane = ChatFirst()
    runner = make_runner(database, lane=lane)
    job = runner.submit("count", {})
    asked = threading.Event()
    lane.before_job = asked.set
    with SoleLane.turn(lane):
        runner.start()
        assert asked.wait(LONG)
        runner.cancel(job.id)
    assert ended(runner, job).status == "cancelled"
    assert lane.order == ["job"]
    runner.close(LONG)


def test_a_disk_that_fills_up_fails_the_job_and_is_kept_as_soon_as_there_is_room(
    runner: JobRunner, counting: Counting, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    monkeypatch.setattr("persona_steering.server.jobs.runner._log.error", lambda *_: refused.set())
    monkeypatch.setattr("persona_steering.server.jobs.runner.RETRY_STORING", 0.01)
    job = in_a_step(runner, counting)
    with database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="disk is full"):
        while True:
            runner.store.log(job.id, "")
    counting.gate.set()
    assert refused.wait(LONG), "how it ended cannot be kept either"
    assert runner.store.get(job.id).status == "running"
    with database.write() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    failed = ended(runner, job)
    assert failed.status == "failed"
    assert failed.error is not None and failed.error.type == "StorageError"
    runner.retry(job.id)
    assert ended(runner, job).status == "succeeded"


# -- progress ----------------------------------------------------------------------------------------------------------


class Timed:
    """A meter whose clock the test turns; `take` gives the rate of the phase and the time left of the job."""

    def __init__(self, *work: Planned) -> None:
        self.now = 0.0
        self._meter = Meter(clock=lambda: self.now)
        self._meter.plan(work)

    def take(
        self, seconds: float, phase: str, done: int, total: int = 100, *, computed: bool = True
    ) -> tuple[float | None, float | None]:
        self.now += seconds
        found = self._meter.take(Progress(phase, done, total), computed=computed)
        return found.rate, found.eta_s


def test_the_rate_is_that_of_what_was_computed_and_not_of_what_was_found() -> None:
    meter = Timed(Planned("answers", 36, 10))
    assert meter.take(0, "answers", 0, computed=False) == (None, None)
    assert meter.take(1, "answers", 64, computed=False) == (None, None), "64 were on disk"
    assert meter.take(8, "answers", 80) == (2.0, 10.0)
    assert meter.take(2, "answers", 90) == (2.6, pytest.approx(10 / 2.6))
    assert meter.take(5, "answers", 90) == (2.6, pytest.approx(10 / 2.6)), "a step that does not move is no step"


def test_the_time_left_is_that_of_all_phases_by_their_tokens_and_the_scoring_between_them() -> None:
    meter = Timed(Planned("short", 20, 10), Planned("long", 10, 50))
    meter.take(0, "short", 0, 20, computed=False)
    assert meter.take(10, "short", 20, 20) == (2.0, 25.0), "200 tokens in 10 s, and 500 are left"
    assert meter.take(10, "long", 0, 10) == (None, 50.0), "another 10 s were for scoring"
    assert meter.take(30, "long", 5, 10) == (pytest.approx(5 / 30), pytest.approx(50 / 450 * 250))
    assert meter.take(20, "long", 10, 10)[1] == 0


def test_a_phase_that_nobody_planned_comes_after_the_one_before_it() -> None:
    meter = Meter()
    meter.plan([Planned("persona", 4, 1), Planned("bands", 4, 1)])
    assert meter.take(Progress("baseline", 0, 4), computed=False).phases == ("baseline", "persona", "bands")
    meter.take(Progress("persona", 0, 4), computed=False)
    found = meter.take(Progress("safe", 0, 4), computed=False)
    assert (found.phases, found.phase_index) == (("baseline", "persona", "safe", "bands"), 2)


def test_an_estimate_of_nothing_asks_no_model(database: Database) -> None:
    class Nothing(Counting):
        name = "nothing"

        def work(self, *_: object) -> list[object]:  # type: ignore[override]
            return []

    found = make_runner(database, Nothing()).estimate("nothing", {})
    assert (found.answers, found.seconds, found.phases) == (0, 0, {})


def test_the_database_itself_refuses_a_state_that_is_none(database: Database) -> None:
    job = JobStore(database).add("count", {})
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        connection.execute("UPDATE jobs SET status = 'lost' WHERE id = ?", (job.id,))
