"""Changing a config.yaml: one key at a time, checked before anything is written, comments and order kept."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo

from persona_steering.config.places import MARKER
from persona_steering.config.schema import FIELDS, Config
from persona_steering.config.sources import given, read_yaml, section_settings, validated
from persona_steering.errors import ConfigError
from persona_steering.files import write_atomically

if TYPE_CHECKING:
    from ruamel.yaml import YAML

HEADER = """\
# Settings of persona-steering. Every key is here as a comment with its default: take the "#" away to change it,
# or run `persona-steer config set KEY VALUE`. Relative paths start at this file's folder."""
COMMENT_COLUMN = 34


def template() -> str:
    """A fresh config.yaml: every section, and every key as a comment with its default and what it means."""
    lines = [HEADER, f"{MARKER}: 1"]
    for section, info in Config.model_fields.items():
        lines += ["", f"# {_purpose(info)}", f"{section}:"]
        for key, field in FIELDS.items():
            if key.startswith(f"{section}."):
                setting = f"  # {key.partition('.')[2]}: {format_value(field.default)}"
                lines.append(f"{setting:<{COMMENT_COLUMN}}  # {field.description}")
    return "\n".join(lines) + "\n"


def format_value(value: object) -> str:
    """A value as it is written in the file and on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) or '""'


def check_value(key: str, value: object, origin: str, base: Path | None = None) -> object:
    """The value with its type, as the settings hold it. Raises ConfigError for an unknown key or a wrong value."""
    section, _, name = key.partition(".")
    config = validated({key: given(key, value, origin, base)})
    return getattr(getattr(config, section), name)


def set_value(file: Path, key: str, text: str) -> object:
    """Writes one setting into a file, which need not exist yet. Returns the value with its type.

    Relative paths start at the current folder; inside the file's folder they are written relative to it.
    Raises: ConfigError for an unknown key, a wrong value or a broken file; StorageError. Then nothing has changed.
    """
    value = check_value(key, text, "the command line")
    section, _, name = key.partition(".")
    content = _content(file)
    yaml = _yaml()
    document = yaml.load(content)
    if document is None:  # nothing but comments, which the parser would not keep
        content = content.rstrip("\n") + ("\n" if content.strip() else "") + f"{MARKER}: 1\n"
        document = yaml.load(content)
    if document.get(section) is None:
        document[section] = {}
    document[section][name] = _plain(value, file.parent)
    _write(file, yaml, document)
    return value


def unset_value(file: Path, key: str) -> bool:
    """Takes one setting out of a file. Returns whether it was there. Raises as `set_value`."""
    if key not in FIELDS:
        check_value(key, None, str(file))
    section, _, name = key.partition(".")
    content = _content(file)
    yaml = _yaml()
    document = yaml.load(content)
    if document is None or name not in (document.get(section) or {}):
        return False
    shorter = _without_lines(content, document[section].lc.key(name)[0])
    del document[section][name]
    if not document[section]:
        document[section] = None
    if yaml.load(shorter) == document:
        write_atomically(file, shorter.encode())
    else:
        _write(file, yaml, document)
    return True


def problems(file: Path) -> list[ConfigError]:
    """Everything that is wrong with one file, not only the first thing; empty when it is valid."""
    found: list[ConfigError] = []
    try:
        sections = read_yaml(file)
    except ConfigError as error:
        return [error]
    for section, settings in sections.items():
        try:
            for key, value in section_settings(file, section, settings):
                try:
                    check_value(key, value, str(file), file.parent)
                except ConfigError as error:
                    found.append(error)
        except ConfigError as error:
            found.append(error)
    return found


def _purpose(section: FieldInfo) -> str:
    return section.description or (section.annotation.__doc__ or "").splitlines()[0]


def _content(file: Path) -> str:
    """The file's text, once it is known to be valid YAML; empty when there is no file."""
    if not file.exists():
        return ""
    for section, settings in read_yaml(file).items():
        list(section_settings(file, section, settings))
    return file.read_text("utf-8")


def _without_lines(content: str, first: int) -> str:
    """The text without the setting that begins on a line, and without what is indented below it.

    The parser would take the comments that follow a setting away with it.
    """
    lines = content.splitlines(keepends=True)
    indent = len(lines[first]) - len(lines[first].lstrip())
    end = first + 1
    while end < len(lines) and lines[end].strip() and lines[end].startswith((" " * (indent + 1), " " * indent + "- ")):
        end += 1
    return "".join(lines[:first] + lines[end:])


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # a long value stays on its line
    return yaml


def _plain(value: object, folder: Path) -> object:
    """A typed value as YAML holds it."""
    if isinstance(value, Path):
        return str(value.relative_to(folder) if value.is_relative_to(folder) else value)
    if isinstance(value, tuple):
        return _flow(value)
    return _quoted(value) if isinstance(value, str) else value


def _flow(values: tuple[Any, ...]) -> object:
    from ruamel.yaml.comments import CommentedSeq

    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence


def _quoted(text: str) -> object:
    """Text that the reader, which speaks an older YAML, would take for something else is put in quotes."""
    import yaml  # type: ignore[import-untyped, unused-ignore]
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    try:
        same = yaml.safe_load(text) == text
    except yaml.YAMLError:
        same = False
    return text if same else DoubleQuotedScalarString(text)


def _write(file: Path, yaml: YAML, document: object) -> None:
    stream = io.StringIO()
    yaml.dump(document, stream)
    write_atomically(file, stream.getvalue().encode())
