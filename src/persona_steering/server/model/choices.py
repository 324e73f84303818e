"""Which models a server can load, and what a name in a request means: never a path."""

from __future__ import annotations

import re
from pathlib import Path

from persona_steering.backends.available import available_models
from persona_steering.backends.embedded import PACKAGED_MODELS
from persona_steering.config import Config
from persona_steering.engine.names import public_id
from persona_steering.errors import UsageError, nearest
from persona_steering.server.model.slot import ModelChoice
from persona_steering.server.schemas.models import ListedModel

_HUB = re.compile(r"(?:hf:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)", re.ASCII)


def list_models(config: Config, loaded: str | None) -> list[ListedModel]:
    """The configured model, then all others of this machine. `loaded` is the public id of the one in memory."""
    own = _configured(config)
    found = [
        ListedModel(id=public_id(model.name), name=model.title, kind=model.kind, size_bytes=model.size)
        for model in available_models(config.cache_dir)
    ]
    others = [model for model in found if model.id != own.id]
    known = [model for model in found if model.id == own.id] or [own]
    return [
        model.model_copy(update={"loaded": model.id == loaded, "configured": model.id == own.id})
        for model in known + others
    ]


def as_choice(asked: ModelChoice, config: Config) -> ModelChoice:
    """What a request means. Raises UsageError for a name that is neither listed nor one of the hub."""
    configured = config.model
    if asked.name in (public_id(configured.name), configured.name):
        return ModelChoice(
            name=configured.name,
            quantization=asked.quantization or configured.quantization,
            revision=asked.revision or configured.revision,
        )
    if asked.name in PACKAGED_MODELS:
        return asked
    hub = _HUB.fullmatch(asked.name)
    if hub is not None and not Path(hub[1]).exists():  # a folder of this name would be loaded in its place
        return asked.model_copy(update={"name": f"hf:{hub[1]}"})
    known = [model.id for model in list_models(config, None)]
    raise UsageError(
        f"{asked.name[:200]!r} names no model: requests load embedded ones, hf:OWNER/NAME, or the configured one.",
        hint=nearest(asked.name, known) or "A folder is named where the server is started: --model FOLDER.",
    )


def _configured(config: Config) -> ListedModel:
    name = config.model.name
    is_folder = Path(name.removeprefix("hf:")).is_dir()
    size = _folder_size(Path(name.removeprefix("hf:"))) if is_folder else None
    return ListedModel(
        id=public_id(name), name=public_id(name), kind="local" if is_folder else "remote", size_bytes=size
    )


def _folder_size(folder: Path) -> int | None:
    try:
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    except OSError:
        return None
