"""The least effort with which a creation on a tiny model comes to an end."""

from __future__ import annotations

from persona_steering.engine.create import Effort

LITTLE = Effort(
    prompts_per_question=1,
    questions=16,
    max_new_tokens=12,
    calibration_questions=12,
    search_questions=4,
    coarse_questions=2,
    coarse_doses=(0.2,),
    controls=1,
    safety_prompts=8,
)
EFFORTS = {"quick": LITTLE, "standard": LITTLE, "thorough": LITTLE}
