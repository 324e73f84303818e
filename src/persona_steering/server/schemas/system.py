"""The server as its clients see it."""

from __future__ import annotations

from pydantic import Field

from persona_steering.server.limits import Limits
from persona_steering.server.model.slot import SlotStatus
from persona_steering.vectors.values import Closed


class ModelFacts(Closed):
    """The loaded model."""

    id: str = Field(description="as clients name it")
    fingerprint: str = Field(description="two models with the same one can share vectors")
    type: str = Field(description="its architecture")
    layers: int
    hidden_size: int
    backend: str
    device: str
    dtype: str
    quantization: str | None
    context_length: int | None
    has_chat_template: bool


class Memory(Closed):
    """Memory of the device that the model runs on, in use by whatever program."""

    used_bytes: int
    total_bytes: int


class Queue(Closed):
    """How busy the model is."""

    writing: int = Field(description="answers")
    waiting: int = Field(description="answers that have no place yet")
    answers: int = Field(description="that ended since the model was loaded")
    tokens: int = Field(description="written since then")


class JobCounts(Closed):
    """Unfinished jobs."""

    queued: int
    running: int


class Settings(Closed):
    """What a request gets when it does not say otherwise."""

    default_strength: float
    steering_scale: float
    safety: bool
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int | None


class System(Closed):
    """What the server is, has and does."""

    version: str
    uptime_s: float
    slot: SlotStatus
    model: ModelFacts | None = Field(description="null: none is loaded")
    device: str | None = Field(description="that the model runs on; null: none is loaded")
    memory: Memory | None = Field(description="null where the system does not say")
    queue: Queue | None = Field(description="null: no model is loaded")
    jobs: JobCounts
    limits: Limits
    settings: Settings
