"""Run by test_resume.py in a process of its own: creates a persona, and kills itself where it is told to.

Usage: create_persona.py MODEL_FOLDER WORKSPACE PHASE:DONE (or "never")
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from persona_steering import Creator, ModelWrapper, PersonaManager, get_config
from persona_steering.backends.base import Progress
from persona_steering.engine.create import Effort
from persona_steering.personas import Persona

PERSONA = Persona(
    name="cook",
    system_prompts=("You are a cook. You talk of soup.", "Speak as a cook. You talk of bread."),
    source="test",
)
# Two batches a phase, so that a kill can come between them.
EFFORT = Effort(
    questions=20,
    prompts_per_question=2,
    max_new_tokens=8,
    calibration_questions=8,
    search_questions=4,
    coarse_questions=2,
    coarse_doses=(0.2,),
    controls=1,
    safety_prompts=8,
)


def main(model: str, workspace: str, die_at: str) -> None:
    phase, _, done = die_at.partition(":")

    def progress(step: Progress) -> None:
        if step.phase == phase and step.done == int(done):
            os.kill(os.getpid(), signal.SIGKILL)

    config = get_config(
        overrides={
            "model.name": model,
            "model.device": "cpu",
            "paths.vectors": Path(workspace) / "vectors",
            "paths.runs": Path(workspace) / "runs",
            "extraction.batch_size": 32,
        }
    )
    with ModelWrapper(config) as wrapper:
        manager = PersonaManager(config)
        created = Creator(wrapper, manager, config, effort=EFFORT, progress=progress).create(PERSONA)
    calibration = created.vector.metadata.calibration
    assert calibration is not None
    sys.stdout.write(f"{created.vector.digest} {calibration.model_dump_json()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
