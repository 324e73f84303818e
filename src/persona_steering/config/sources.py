"""Which value holds: files, environment and overrides, merged key by key, each with its origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from persona_steering.config.places import FILE_NAME, MARKER, find_workspace, user_config_file, user_data_dir
from persona_steering.config.schema import FIELDS, Config, field_of, keys_of, sections_hint
from persona_steering.errors import ConfigError, nearest

ENV_PREFIX = "PERSONA_STEER_"


class Value(NamedTuple):
    """What was given for a key, and where."""

    value: object
    origin: str


def get_config(path: Path | None = None, *, overrides: Mapping[str, object] | None = None) -> Config:
    """The settings that hold here and now.

    path: a config file, or a workspace folder, to use instead of looking for one upward.
    overrides: "section.key" to value; text is parsed as in the environment.
    Raises: ConfigError for an unknown key, a value out of range or a broken file.
    """
    workspace, file = _locate(path)
    user_file = user_config_file()
    merged: dict[str, Value] = {}  # lowest precedence first
    if user_file.is_file() and (file is None or user_file.resolve() != file.resolve()):
        merged.update(_from_file(user_file))
    if file is not None:
        merged.update(_from_file(file))
    merged.update(_from_environment(os.environ))
    merged.update((key, given(key, value, "override")) for key, value in (overrides or {}).items())
    config = validated(merged)
    config._workspace = workspace
    config._origins = {key: value.origin for key, value in merged.items()}
    return config


def _locate(path: Path | None) -> tuple[Path, Path | None]:
    """The workspace, and its config file when there is one."""
    if path is None:
        workspace = find_workspace() or user_data_dir()
    else:
        path = Path(path).expanduser().absolute()
        if path.is_file():
            return path.parent, path
        if not path.is_dir():
            raise ConfigError(f"there is no configuration file {path}.", hint="Check the path.")
        workspace = path
    file = workspace / FILE_NAME
    return workspace, file if file.is_file() else None


def given(key: str, value: object, origin: str, base: Path | None = None) -> Value:
    """One value from a person: "null" as None where that is allowed, and paths made absolute."""
    field = field_of(key, origin)
    if field.default is None and isinstance(value, str) and value.lower() in {"", "null", "none"}:
        value = None
    if key.startswith("paths.") and isinstance(value, (str, Path)):
        value = (base or Path.cwd()) / Path(value).expanduser()
    return Value(value, origin)


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    flat = {key.replace(".", "_"): key for key in FIELDS}
    for variable, value in environment.items():
        if not variable.startswith(ENV_PREFIX):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if "__" in name:
            key = name.replace("__", ".", 1)
            yield key, given(key, value, f"environment variable {variable}")
        elif name in flat:  # one underscore where two are meant would otherwise do nothing
            meant = ENV_PREFIX + flat[name].replace(".", "__").upper()
            raise ConfigError(f"unknown environment variable {variable}.", hint=f"Did you mean {meant}?")


def _from_file(file: Path) -> Iterator[tuple[str, Value]]:
    for section, settings in read_yaml(file).items():
        for key, value in section_settings(file, section, settings):
            yield key, given(key, value, str(file), file.parent)


def section_settings(file: Path, section: object, settings: object) -> Iterator[tuple[str, object]]:
    """The "section.key" and raw value of every setting of one section of a file; the version line has none.

    Raises: ConfigError for an unknown section or version, or settings that are no mapping.
    """
    if section == MARKER:
        if settings != 1:
            raise ConfigError(
                f"{file} has version {settings!r} of the configuration, and only 1 is known.",
                hint="Upgrade persona-steering, or write `persona_steering: 1`.",
            )
        return
    if section not in Config.model_fields:
        known = [*Config.model_fields, *FIELDS]
        hint = nearest(str(section), known) or sections_hint()
        raise ConfigError(f"unknown section {section!r} in {file}.", hint=hint)
    if settings is None:
        return
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{section!r} in {file} is {settings!r}, but it is a section.",
            hint=f"Write its settings indented below it: {', '.join(keys_of(str(section)))}.",
        )
    yield from ((f"{section}.{key}", value) for key, value in settings.items())


def read_yaml(file: Path) -> dict[object, object]:
    """The sections of a file, unchecked. Raises ConfigError with the line when it is not YAML."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{where}: {exc.problem or 'not valid YAML'}.", hint="Correct that line.") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{file} is not a YAML text file in UTF-8.", hint="Correct or delete it.") from exc
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror}.", hint="Check its permissions.") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} is not a list of sections.", hint=sections_hint())
    return content


def validated(merged: Mapping[str, Value]) -> Config:
    """The settings of these values. Raises ConfigError with key, value, origin and what is allowed."""
    nested: dict[str, dict[str, object]] = {}
    for key, (value, _) in merged.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value
    try:
        return Config.model_validate(nested)
    except ValidationError as exc:
        raise _value_error(exc, merged) from exc


def _value_error(exc: ValidationError, merged: Mapping[str, Value]) -> ConfigError:
    """The first wrong value, with every alternative of its type that it failed."""
    errors = exc.errors(include_url=False)
    key = ".".join(str(part) for part in errors[0]["loc"][:2])
    value, origin = merged[key]
    reasons = dict.fromkeys(e["msg"] for e in errors if ".".join(map(str, e["loc"][:2])) == key)
    return ConfigError(
        f"{key} is {value!r} in {origin}: {'; or '.join(reasons)}.",
        hint=f"{key}: {FIELDS[key].description}.",
    )
