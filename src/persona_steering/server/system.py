"""What the server is, has and does, in one value."""

from __future__ import annotations

import time
from dataclasses import asdict

from persona_steering.backends.base import ModelInfo
from persona_steering.config import Config
from persona_steering.engine.doctor import device_memory
from persona_steering.engine.names import public_id
from persona_steering.errors import PersonaSteeringError
from persona_steering.server.limits import LIMITS
from persona_steering.server.schemas.system import JobCounts, Memory, ModelFacts, Queue, Settings, System
from persona_steering.server.state import ServerState
from persona_steering.vectors.metadata import package_version


def describe_system(state: ServerState) -> System:
    """A snapshot."""
    slot, info, load, jobs = state.slot.status, _info(state), state.load(), state.jobs.store.counts()
    return System(
        version=package_version() or "0",
        uptime_s=round(time.time() - state.started, 1),
        slot=slot,
        model=_facts(info) if info else None,
        device=info.device if info else None,
        memory=_memory(info.device if info else "cpu"),
        queue=Queue(**asdict(load)) if load else None,
        jobs=JobCounts(queued=jobs.get("queued", 0), running=jobs.get("running", 0)),
        limits=LIMITS,
        settings=_settings(state.config),
    )


def _info(state: ServerState) -> ModelInfo | None:
    try:
        return state.slot.open_backend().info
    except PersonaSteeringError:  # it is not there, or going
        return None


def _facts(info: ModelInfo) -> ModelFacts | None:
    identity = info.identity
    if identity is None:  # of a remote model, which is never served
        return None
    return ModelFacts(
        id=public_id(info.id),
        fingerprint=identity.fingerprint,
        type=identity.model_type,
        layers=identity.num_layers,
        hidden_size=identity.hidden_size,
        backend=info.backend,
        device=info.device,
        dtype=info.dtype,
        quantization=info.quantization,
        context_length=info.context_length,
        has_chat_template=info.has_chat_template,
    )


def _memory(device: str) -> Memory | None:
    free, total = device_memory(device)
    return Memory(used_bytes=total - free, total_bytes=total) if total else None


def _settings(config: Config) -> Settings:
    steering, generation = config.steering, config.generation
    return Settings(
        default_strength=steering.default_strength,
        steering_scale=steering.steering_scale,
        safety=steering.safety,
        temperature=generation.temperature,
        top_p=generation.top_p,
        max_new_tokens=generation.max_new_tokens,
        seed=generation.seed,
    )
