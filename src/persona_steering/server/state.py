"""All that a running server has: settings, database, the model's slot, and the runner of jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from persona_steering.config import Config
from persona_steering.personas.manager import PersonaManager
from persona_steering.server.answers.running import RunningAnswers
from persona_steering.server.errors import ApiError
from persona_steering.server.feeds.feed import ConversationChange, Feed, LibraryChange
from persona_steering.server.jobs.kinds import Change
from persona_steering.server.jobs.runner import JobRunner
from persona_steering.server.jobs.use_cases import JOBS
from persona_steering.server.library.uploads import Uploads
from persona_steering.server.library.vectors import VectorLibrary
from persona_steering.server.live.answers import LiveAnswers
from persona_steering.server.metrics import Metrics
from persona_steering.server.model.choices import as_choice
from persona_steering.server.model.scheduler import Load
from persona_steering.server.model.slot import ModelChoice, ModelSlot, SlotStatus
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.job_models import Job
from persona_steering.server.stores.jobs import JobStore
from persona_steering.server.stores.presets import PresetStore
from persona_steering.server.stores.runs import RunStore


class ServerState:
    """Made before the server listens; `start` and `close` are the server's own."""

    def __init__(self, config: Config, database: Database, slot: ModelSlot) -> None:
        self.config, self.database, self.slot = config, database, slot
        self.started = time.time()
        self.reference_scale = 1.0  # multiplies the weights on the paths of the earlier web system
        self.conversations = ConversationStore(database)
        self.presets = PresetStore(database)
        self.answers = RunningAnswers()
        self.live = LiveAnswers()
        self.uploads = Uploads()
        self.runs = RunStore(database)
        self.jobs = JobRunner(
            JobStore(database), self.runs, JOBS, config=config, open_backend=slot.open_backend, lane=slot
        )
        self.feed = Feed()
        self.library = VectorLibrary(config, slot, self.feed.tell)
        self._working, self._beginning = False, threading.Lock()
        slot.listen(self._on_model)
        slot.listen(self.feed.tell)
        self.jobs.store.listen(self.feed.tell)
        self.conversations.listen(self._on_conversation)
        self.jobs.listen(self._on_job)
        self.metrics = Metrics(
            slot=lambda: slot.status, load=self.load, jobs=self.jobs.store.counts, readers=lambda: self.feed.readers
        )
        slot.listen_to_answers(self.metrics.on_answer)

    def start(self) -> None:
        """Marks what an earlier server left unfinished. Jobs begin once there is a model."""
        self.conversations.interrupt_writing()
        self._on_model(self.slot.status)

    def end_feeds(self) -> None:
        """Lets those go who listen for news, which would never end by themselves."""
        self.feed.close()

    def end_answers(self) -> None:
        """Ends every answer, and takes no new ones."""
        self.slot.end_answers()

    def close(self) -> None:
        """Ends all answers, interrupts the running job, frees the model, and lets go of the workspace."""
        self.end_feeds()
        self.end_answers()
        self.jobs.close()
        self.slot.close()
        self.database.close()

    def load_model(self, choice: ModelChoice, *, done: Callable[[], None] | None = None) -> None:
        """Begins to load a model in the place of the one that is there.

        Raises UsageError as `as_choice`, ConflictError while a job wants the model or another change is under way.
        """
        self.jobs.check_idle()
        self.slot.begin_loading(as_choice(choice, self.config), done=done)

    def unload_model(self) -> None:
        """Frees the model. Raises ConflictError while a job wants it."""
        self.jobs.check_idle()
        self.slot.unload()

    def load(self) -> Load | None:
        """How busy the model is; None where there is none."""
        try:
            return self.slot.serving.scheduler.load
        except ApiError:
            return None

    def manager(self) -> PersonaManager:
        """The stored vectors: of the loaded model, or of all where none is loaded. For one request."""
        bound = self.slot.status.state == "ready"
        return PersonaManager(self.config, model=self.slot.open_backend().identity if bound else None)

    def _on_conversation(self, conversation: str, change: Change, message: str | None) -> None:
        self.feed.tell(ConversationChange(id=conversation, change=change, message_id=message))

    def _on_model(self, status: SlotStatus) -> None:
        with self._beginning:  # the start of the server and the end of loading may come at once
            if status.state == "ready" and not self._working:
                self.jobs.start()
                self._working = True

    def _on_job(self, job: Job) -> None:
        change = JOBS[job.type].changes if job.type in JOBS else None
        if change is None or job.subject is None or job.status != "succeeded":
            return
        kinds: dict[str, Literal["persona", "trait"]] = {"persona": "persona", "trait": "trait"}
        kind = kinds.get(job.subject.kind)
        self.feed.tell(LibraryChange(kind=kind, name=job.subject.name if kind else None, change=change))
