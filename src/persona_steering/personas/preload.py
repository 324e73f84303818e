"""The preload list: which personas and traits of a model are kept in memory from the start.

One small file a workspace, `preload.json`, with a list for each model:

    {"version": 1, "models": {"<fingerprint>": {"model": "embedded", "names": ["sage"]}}}

`chat` loads what it names. A name whose vector is gone stays in the list until it is unloaded, and is never an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from persona_steering.errors import ConfigError, unknown
from persona_steering.files import write_atomically
from persona_steering.vectors import ModelIdentity

FILE_NAME = "preload.json"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Names(_Closed):
    model: str
    names: tuple[str, ...]


class _File(_Closed):
    version: Literal[1] = 1
    models: dict[str, _Names] = {}


class PreloadList:
    """The preload list of a workspace (its folder). Every change is written at once."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FILE_NAME

    def names(self, model: ModelIdentity) -> tuple[str, ...]:
        """The names for a model, sorted. Raises ConfigError when the file is damaged."""
        found = self._read().models.get(model.fingerprint)
        return found.names if found else ()

    def add(self, model: ModelIdentity, names: Iterable[str]) -> tuple[str, ...]:
        """Puts names on the list; those that are there stay. Returns what is new. Raises also StorageError."""
        before = self.names(model)
        after = {*before, *names}
        self._write(model, after)
        return tuple(sorted(after - set(before)))

    def remove(self, model: ModelIdentity, names: Iterable[str]) -> tuple[str, ...]:
        """Takes names off the list. Raises NotFoundError for one that is not on it: then nothing has changed."""
        before, going = self.names(model), set(names)
        for name in sorted(going - set(before)):
            raise unknown("loaded persona", name, before, hint="See: persona-steer list --loaded")
        self._write(model, set(before) - going)
        return tuple(sorted(going))

    def discard(self, model: ModelIdentity, names: Iterable[str]) -> None:
        """Takes those of the names off the list that are on it, as when their vectors are deleted."""
        before = set(self.names(model))
        if gone := before & set(names):
            self._write(model, before - gone)

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return _File()
        except (OSError, ValidationError) as error:
            raise ConfigError(
                f"the preload list {self.path} cannot be read.", hint="Delete it; `load` writes a new one."
            ) from error

    def _write(self, model: ModelIdentity, names: Iterable[str]) -> None:
        models = {**self._read().models, model.fingerprint: _Names(model=model.id, names=tuple(sorted(names)))}
        kept = {key: entry.model_dump(mode="json") for key, entry in models.items() if entry.names}
        text = json.dumps({"version": 1, "models": kept}, indent=1, ensure_ascii=False)
        write_atomically(self.path, f"{text}\n".encode())
