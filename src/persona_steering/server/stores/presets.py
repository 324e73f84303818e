"""Presets: steering under a name, to be asked for again."""

from __future__ import annotations

import json
import sqlite3
import time

from pydantic import BaseModel, ConfigDict, Field

from persona_steering.errors import ConflictError, unknown
from persona_steering.server.paging import Page, PageQuery, select_page
from persona_steering.server.schemas.steering import SteeringRequest
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.versions import check_version
from persona_steering.vectors import check_name


class Preset(BaseModel):
    """A name for steering. `version` counts the changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    steering: SteeringRequest
    created_at: float = Field(description="seconds since 1970")
    updated_at: float
    version: int


class PresetStore:
    """The presets of a workspace.

    Raises: NotFoundError with the nearest names, ConflictError for a name in use or another version than `expected`,
    UsageError for a name that cannot be one, and what the database raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, steering: SteeringRequest, *, description: str = "") -> Preset:
        """A new one."""
        now = time.time()
        made = Preset(
            name=check_name(name),
            description=description,
            steering=steering,
            created_at=now,
            updated_at=now,
            version=1,
        )
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM presets WHERE name = ?", (name,)).fetchone():
                raise ConflictError(f"the preset {name!r} exists already.", hint="Change it, or choose another name.")
            connection.execute(
                "INSERT INTO presets VALUES (:name, :description, :steering, :created_at, :updated_at, :version)",
                _row(made),
            )
        return made

    def get(self, name: str) -> Preset:
        """The one of this name."""
        with self._database.read() as connection:
            return _find(connection, name)

    def page(self, query: PageQuery | None = None) -> Page[Preset]:
        """A page of them, by name."""
        query = query or PageQuery(order="asc")
        with self._database.read() as connection:
            return select_page(connection, "presets", query, _preset, key="name")

    def change(
        self,
        name: str,
        *,
        steering: SteeringRequest | None = None,
        description: str | None = None,
        expected: int | None = None,
    ) -> Preset:
        """Sets what is given."""
        with self._database.write() as connection:
            found = _find(connection, name, expected)
            changes = {"steering": steering, "description": description}
            changed = found.model_copy(
                update={key: value for key, value in changes.items() if value is not None}
                | {"updated_at": time.time(), "version": found.version + 1}
            )
            connection.execute(
                "UPDATE presets SET description = :description, steering = :steering, updated_at = :updated_at, "
                "version = :version WHERE name = :name",
                _row(changed),
            )
        return changed

    def delete(self, name: str, *, expected: int | None = None) -> None:
        """Removes one."""
        with self._database.write() as connection:
            _find(connection, name, expected)
            connection.execute("DELETE FROM presets WHERE name = ?", (name,))


def _find(connection: sqlite3.Connection, name: str, expected: int | None = None) -> Preset:
    row = connection.execute("SELECT * FROM presets WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise unknown("preset", name, [known["name"] for known in connection.execute("SELECT name FROM presets")])
    found = _preset(row)
    check_version(f"preset {name!r}", found.version, expected)
    return found


def _row(preset: Preset) -> dict[str, object]:
    return preset.model_dump() | {"steering": preset.steering.model_dump_json(exclude_defaults=True)}


def _preset(row: sqlite3.Row) -> Preset:
    return Preset.model_validate({**dict(row), "steering": json.loads(row["steering"])})
