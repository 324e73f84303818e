"""Reading text files through schemas: every complaint names the file, and the line where there is one."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from persona_steering.errors import NotFoundError, UsageError, nearest, unknown

_Model = TypeVar("_Model", bound=BaseModel)

MAX_BYTES = 8 * 1024 * 1024


def library(folder: str) -> Traversable:
    """A folder of the library that ships with the package."""
    return resources.files("persona_steering.personas").joinpath("library", folder)


def library_names(folder: str) -> tuple[str, ...]:
    """The names of the TOML files in a folder of the library, sorted."""
    files = (entry.name for entry in library(folder).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_shipped(schema: type[_Model], folder: str, name: str, *, kind: str) -> _Model:
    """One TOML file of the library; its source is "kind:name". Hyphens and spaces may stand for underscores.

    Raises: NotFoundError with the nearest names.
    """
    stem, names = re.sub(r"[ -]", "_", name.strip().lower()), library_names(folder)
    if stem not in names:
        raise unknown(kind, name, names)
    where = f"{stem}.toml"
    text = library(folder).joinpath(where).read_text(encoding="utf-8")
    return parse_named(schema, parse_toml(text, where), stem, f"{kind}:{stem}", where=where)


def read_text(path: Path) -> str:
    """The text of a user's file, without a byte-order mark.

    Raises: NotFoundError if there is none; UsageError if it is a folder, unreadable, too large or not UTF-8.
    """
    try:
        if not path.exists():
            raise NotFoundError(
                f"there is no file {str(path)!r}.",
                hint="Check the path; it is relative to the current folder.",
            )
        if not path.is_file():
            raise UsageError(f"{str(path)!r} is not a file.", hint="Name one file.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(
                f"{str(path)!r} has {size} bytes; at most {MAX_BYTES} are read.",
                hint="Split the file into smaller ones.",
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{str(path)!r} is not UTF-8 text.", hint="Save the file as UTF-8.") from exc
    except OSError as exc:
        raise UsageError(
            f"{str(path)!r} cannot be read: {exc.strerror}.", hint="Check the permissions of the file."
        ) from exc


def parse_json(text: str, where: str) -> Any:
    """Any JSON value. `where` names its place (file, or file and line) in the error.

    Raises: UsageError if the text is not JSON.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as exc:
        reason = f"{exc.msg} at line {exc.lineno}" if isinstance(exc, json.JSONDecodeError) else "nested too deeply"
        raise UsageError(f"{where} is not valid JSON: {reason}.", hint="Correct the file at that place.") from exc


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """A TOML table. Raises: UsageError if the text is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{where} is not valid TOML: {exc}.", hint="Correct the file at that place.") from exc


def parse_named(schema: type[_Model], data: object, name: str, source: str, *, where: str) -> _Model:
    """As `parse_model`, for a schema with a name (`name` unless the data give one) and a source, which is filled in.

    Raises: UsageError with the place, the key and the reason.
    """
    if isinstance(data, Mapping):
        if "source" in data:
            raise UsageError(f"{where} has the key 'source', which is filled in on loading.", hint="Remove the key.")
        data = {"name": name, **data, "source": source}
    return parse_model(schema, data, where)


def parse_model(schema: type[_Model], data: object, where: str) -> _Model:
    """A value checked against a closed schema.

    Raises: UsageError with the place, the key and the reason.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} is not an object.", hint=f"Expected the keys {', '.join(schema.model_fields)}.")
    try:
        return schema.model_validate(dict(data))
    except ValidationError as exc:
        raise _first_complaint(exc, schema, where) from exc


def parse_lines(schema: type[_Model], text: str, where: str) -> list[_Model]:
    """One value per line of a JSONL text; blank lines are skipped.

    Raises: UsageError with file and line number.
    """
    # str.splitlines would also cut at U+2028 and its like, which JSON strings may hold.
    lines = [(f"{where} line {i}", line) for i, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [parse_model(schema, parse_json(line, place), place) for place, line in lines]


def _first_complaint(exc: ValidationError, schema: type[BaseModel], where: str) -> UsageError:
    # A misspelt key is both unknown and missing; the unknown one tells more.
    errors = exc.errors(include_url=False)
    error = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        hint = nearest(str(error["loc"][-1]), schema.model_fields) if len(error["loc"]) == 1 else ""
        return UsageError(f"{where} has the unknown key {key!r}.", hint=hint or "Remove the key.")
    if error["type"] == "missing":
        return UsageError(f"{where} lacks the key {key!r}.", hint="Add the key.")
    reason = error["msg"].removeprefix("Value error, ").rstrip(".").replace("valid tuple", "list")
    subject = f"{where}, {key!r}" if key else where
    return UsageError(f"{subject}: {reason}.", hint="Correct the file at that place.")
