"""The models that are on this machine already, without loading one."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from persona_steering.backends.embedded import PACKAGED_MODELS, PackagedModel, is_installed, locate_gguf
from persona_steering.errors import PersonaSteeringError

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

ModelKind = Literal["embedded", "cached"]
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A model as `load` takes it by name, and its size on disk; None where it is not known yet."""

    name: str
    title: str
    kind: ModelKind
    size: int | None


def available_models(cache: Path) -> list[AvailableModel]:
    """The models that came as packages, then those of the hub's cache. `cache` is this package's own."""
    packaged = [model for model in PACKAGED_MODELS.values() if is_installed(model) or _file(model, cache)]
    found = [AvailableModel(model.name, model.title, "embedded", _size(_file(model, cache))) for model in packaged]
    return found + sorted(_cached(), key=lambda model: model.name.lower())


def _file(model: PackagedModel, cache: Path) -> Path | None:
    try:
        return locate_gguf(model, cache)
    except (PersonaSteeringError, OSError, importlib.metadata.PackageNotFoundError):
        return None


def _size(file: Path | None) -> int | None:
    try:
        return None if file is None else file.stat().st_size
    except OSError:
        return None


def _cached() -> list[AvailableModel]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):  # a file in its place
        return []
    return [
        AvailableModel(f"hf:{one.repo_id}", one.repo_id, "cached", one.size_on_disk)
        for one in repositories
        if one.repo_type == "model" and _is_whole(one)
    ]


def _is_whole(repository: CachedRepoInfo) -> bool:
    """Whether some revision has a configuration and weights, and not a tokenizer alone."""
    for revision in repository.revisions:
        names = {file.file_name for file in revision.files}
        if "config.json" in names and any(name.endswith(_WEIGHTS) for name in names):
            return True
    return False
