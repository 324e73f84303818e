"""One file with all that belongs to a vector: a zip whose manifest has the size and SHA-256 of every member.

    manifest.json              schema version, and the members
    vector.safetensors         the vector
    axes/NAME.safetensors      the axes that its calibration was measured with
    card.json                  what was known of it where it was written
    persona.json               the prompts that it was made from

Members are read into memory, never unpacked to a disk. Anything that a writer of this format would not have made
(other names, links, encryption, more bytes than a vector can need) is refused before it is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from persona_steering.errors import VectorFileError
from persona_steering.vectors.files import read_bytes, write_atomically
from persona_steering.vectors.formats.safetensors import from_bytes, to_bytes
from persona_steering.vectors.metadata import package_version
from persona_steering.vectors.vector import SteeringVector

FORMAT = "archive"
SCHEMA_VERSION = 1
MAX_BYTES = 256 * 1024 * 1024  # of all members together, and of the file
MAX_MEMBERS = 16

_MANIFEST, _VECTOR, _CARD, _PERSONA = "manifest.json", "vector.safetensors", "card.json", "persona.json"
_AXIS = re.compile(r"axes/([a-z0-9][a-z0-9_-]{0,63})\.safetensors")
_BEGINNING = b"PK\x03\x04"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal contents give equal files
_COPY_AGAIN = "Copy it again from its source."


@dataclass(frozen=True, eq=False)
class Archive:
    """The contents: a vector, the axes that it stands on by name, and two JSON objects, each if it is known."""

    vector: SteeringVector
    axes: Mapping[str, SteeringVector] = field(default_factory=dict)
    card: Mapping[str, JsonValue] | None = None
    persona: Mapping[str, JsonValue] | None = None


class _Member(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["persona-steering archive"] = "persona-steering archive"
    schema_version: int = SCHEMA_VERSION
    package_version: str = ""
    members: dict[str, _Member]


def is_archive(start: bytes) -> bool:
    """Whether a file that begins so is an archive: a zip whose first member is the manifest."""
    return start.startswith(_BEGINNING) and start[30 : 30 + len(_MANIFEST)] == _MANIFEST.encode()


def write(path: Path, archive: Archive) -> None:
    """Write atomically; equal contents give equal bytes. Raises: StorageError."""
    members = {_VECTOR: to_bytes(archive.vector)}
    members |= {f"axes/{name}.safetensors": to_bytes(axis) for name, axis in sorted(archive.axes.items())}
    for name, value in ((_CARD, archive.card), (_PERSONA, archive.persona)):
        members |= {name: _json(value)} if value is not None else {}
    described = {name: _Member(size=len(data), sha256=_sha256(data)) for name, data in members.items()}
    manifest = _Manifest(package_version=package_version(), members=described)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in {_MANIFEST: _json(manifest.model_dump(mode="json")), **members}.items():
            file.writestr(zipfile.ZipInfo(name, _LONG_AGO), data, zipfile.ZIP_DEFLATED)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> Archive:
    """The contents of an archive, verified.

    Raises: NotFoundError; VectorFileError when it is damaged, changed, too large, of a newer schema, or has members
        that do not belong there.
    """
    data = read_bytes(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise VectorFileError(f"{path} has more than {MAX_BYTES} bytes.", hint=_COPY_AGAIN)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = _members(path, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error) as exc:
        raise VectorFileError(f"{path} is truncated or damaged ({exc}).", hint=_COPY_AGAIN) from exc
    axes = {match[1]: name for name in members if (match := _AXIS.fullmatch(name))}
    if _VECTOR not in members:
        raise VectorFileError(f"{path} holds no vector.", hint=_COPY_AGAIN)
    return Archive(
        vector=from_bytes(members[_VECTOR], f"{path}: {_VECTOR}"),
        axes={name: from_bytes(members[member], f"{path}: {member}") for name, member in axes.items()},
        card=_object(path, _CARD, members),
        persona=_object(path, _PERSONA, members),
    )


def _members(path: Path, file: zipfile.ZipFile) -> dict[str, bytes]:
    """Every member but the manifest, as the manifest says that it is."""
    infos = file.infolist()
    _check_infos(path, infos)
    members = {info.filename: file.read(info) for info in infos}
    manifest = _read_manifest(path, members.pop(_MANIFEST, b""))
    odd = sorted(manifest.members.keys() ^ members.keys())
    if odd:
        raise VectorFileError(f"{path}: its manifest and its members differ: {', '.join(odd)}.", hint=_COPY_AGAIN)
    for name, data in members.items():
        if (len(data), _sha256(data)) != (manifest.members[name].size, manifest.members[name].sha256):
            raise VectorFileError(f"{path}: {name} is not what the manifest says.", hint=_COPY_AGAIN)
    return members


def _check_infos(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Refuses what no writer of this format makes, before any member is read."""
    names = [info.filename for info in infos]
    total = sum(info.file_size for info in infos)
    if len(infos) > MAX_MEMBERS or total > MAX_BYTES:
        raise VectorFileError(
            f"{path} would unpack to {len(infos)} members of {total} bytes; at most {MAX_MEMBERS} of {MAX_BYTES} are "
            "read.",
            hint="No vector needs that much.",
        )
    for info in infos:
        belongs = info.filename in (_MANIFEST, _VECTOR, _CARD, _PERSONA) or _AXIS.fullmatch(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not belongs or names.count(info.filename) > 1 or kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
            raise VectorFileError(
                f"{path} has a member that does not belong in it: {info.filename!r}.",
                hint="It is refused unread. Ask its author how it was made.",
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise VectorFileError(f"{path}: {info.filename} is compressed in a way that is not read.")


def _read_manifest(path: Path, data: bytes) -> _Manifest:
    try:
        manifest = _Manifest.model_validate_json(data)
    except ValidationError as exc:
        raise VectorFileError(f"{path}: its manifest is not valid.", hint=_COPY_AGAIN) from exc
    if manifest.schema_version > SCHEMA_VERSION:
        raise VectorFileError(
            f"{path} has schema version {manifest.schema_version}, and this version of persona-steering reads up to "
            f"{SCHEMA_VERSION}.",
            hint="Upgrade it: `pip install --upgrade persona-steering`.",
        )
    return manifest


def _object(path: Path, name: str, members: Mapping[str, bytes]) -> dict[str, JsonValue] | None:
    if name not in members:
        return None
    try:
        value = json.loads(members[name])
    except (ValueError, RecursionError) as exc:
        raise VectorFileError(f"{path}: {name} is not valid JSON.", hint=_COPY_AGAIN) from exc
    if not isinstance(value, dict):
        raise VectorFileError(f"{path}: {name} is not a JSON object.", hint=_COPY_AGAIN)
    return value


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
