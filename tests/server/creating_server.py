"""Run by test_use_cases.py in a process of its own: makes a persona in a job, and kills itself in the middle.

Usage: creating_server.py MODEL_FOLDER WORKSPACE PHASE:DONE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.engine.create_persona import EFFORT, PERSONA
from tests.server.counting import make_runner

from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.config import Config, get_config
from persona_steering.engine.create import EFFORTS
from persona_steering.server.jobs.use_cases import JOBS
from persona_steering.server.stores.database import Database, database_file

PARAMS = {"name": PERSONA.name, "system_prompts": list(PERSONA.system_prompts), "effort": "quick"}


def settings(model: str, workspace: Path) -> Config:
    """The settings of a workspace."""
    return get_config(
        overrides={
            "model.name": model,
            "model.device": "cpu",
            "paths.vectors": workspace / "vectors",
            "paths.runs": workspace / "runs",
        }
    )


def main(model: str, workspace: str, die_at: str) -> None:
    phase, _, done = die_at.partition(":")
    EFFORTS["quick"] = EFFORT
    config = settings(model, Path(workspace))
    backend = ModelWrapper(config).backend
    runner = make_runner(
        Database(database_file(Path(workspace))),
        *JOBS.values(),
        config=config,
        open_backend=lambda: backend,
    )
    job = runner.submit("persona.create", PARAMS)
    runner.start()
    for event in runner.store.follow(job.id):
        if event.type == "progress" and (event.data["phase"], event.data["done"]) == (phase, int(done)):
            os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(f"it was to be killed: {runner.store.get(job.id)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
