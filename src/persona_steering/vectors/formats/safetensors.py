"""The native format: safetensors with one float32 tensor `layer.{i}` per layer.

The header's `__metadata__` has one key, `persona_steering`: the vector's metadata as JSON, and beside it
`layers` (so that a missing tensor is noticed) and `digest` (so that a changed value is).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from persona_steering.errors import NotFoundError, PersonaSteeringError, VectorFileError
from persona_steering.vectors.files import read_bytes, write_atomically
from persona_steering.vectors.metadata import SCHEMA_VERSION, VectorMetadata
from persona_steering.vectors.vector import SteeringVector

METADATA_KEY = "persona_steering"


@dataclass(frozen=True)
class Header:
    """The metadata of a file, and which layers and values (by their digest) it says that it holds."""

    metadata: VectorMetadata
    layers: tuple[int, ...]
    digest: str


def header_text(vector: SteeringVector) -> str:
    """A vector's metadata as JSON, with the layers and the digest of its values; `parse_header` reads it."""
    header = vector.metadata.model_dump(mode="json")
    header |= {"layers": list(vector.layers), "digest": vector.digest}
    return json.dumps(header, ensure_ascii=False)


def to_bytes(vector: SteeringVector) -> bytes:
    """The file's content; equal vectors give equal bytes."""
    tensors = {f"layer.{layer}": direction for layer, direction in vector.directions.items()}
    return bytes(save(tensors, metadata={METADATA_KEY: header_text(vector)}))


def write(path: Path, vector: SteeringVector) -> None:
    """Write atomically. Raises: StorageError when the disk is full or not writable."""
    write_atomically(path, to_bytes(vector))


def read(path: Path) -> SteeringVector:
    """The vector in a file, verified.

    Raises: NotFoundError, VectorFileError when it is truncated, incomplete, changed or of a newer schema.
    """
    read_header(path)  # before the rest of a file that may be a whole model
    return from_bytes(read_bytes(path), str(path))


def from_bytes(data: bytes, where: str) -> SteeringVector:
    """The vector in a file's content; `where` is what errors call it. Raises: VectorFileError as `read` does."""
    with _Reading(where):
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = _header(where, json.loads(data[8 : 8 + length]).get("__metadata__"))
    return verified({name.removeprefix("layer."): value for name, value in tensors.items()}, header, where)


def verified(directions: Mapping[str, NDArray[Any]], header: Header, where: str) -> SteeringVector:
    """The vector of these directions by layer number, when they are those that the header was written with.

    Raises: VectorFileError.
    """
    expected = {str(layer) for layer in header.layers}
    if expected != directions.keys():
        odd = sorted(expected ^ directions.keys())
        raise VectorFileError(f"{where} is incomplete: layers {', '.join(odd)}.", hint=_COPY_AGAIN)
    for layer, direction in directions.items():
        if direction.dtype != np.float32:
            raise VectorFileError(f"{where}: layer {layer} is {direction.dtype}, not float32.", hint=_COPY_AGAIN)
    vector = SteeringVector({int(layer): direction for layer, direction in directions.items()}, header.metadata)
    if vector.digest != header.digest:
        raise VectorFileError(f"{where} is damaged: its values are not those written.", hint=_COPY_AGAIN)
    return vector


def read_header(path: Path) -> Header:
    """What is known without reading a tensor. Raises: NotFoundError, VectorFileError."""
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}.", hint="Check the path.")
    with _Reading(str(path)), safe_open(path, framework="np") as file:
        return _header(str(path), file.metadata())


_COPY_AGAIN = "Copy it again from its source, or extract the vector again."


class _Reading:
    """Turns what goes wrong while reading a file into our errors."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, OSError):
            raise VectorFileError(f"{self.where} cannot be read: {exc.strerror or exc}.") from exc
        if isinstance(exc, (SafetensorError, TypeError, ValueError, KeyError, OverflowError, RecursionError)):
            raise VectorFileError(
                f"{self.where} is truncated or not a safetensors file ({exc}).", hint=_COPY_AGAIN
            ) from exc


def _header(where: str, raw: Mapping[str, str] | None) -> Header:
    """Metadata, layers and digest out of the header's `__metadata__`."""
    if not raw or METADATA_KEY not in raw:
        raise VectorFileError(
            f"{where} is a safetensors file, but not a steering vector of this package.",
            hint="Only files that persona-steering wrote can be read from safetensors.",
        )
    return parse_header(raw[METADATA_KEY], where)


def parse_header(text: str, where: str) -> Header:
    """What `header_text` wrote. Raises: VectorFileError when it is not valid, or of a newer schema."""
    try:
        header = json.loads(text)
        version = header["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise VectorFileError(
                f"{where} has schema version {version}, and this version of persona-steering reads up to "
                f"{SCHEMA_VERSION}.",
                hint="Upgrade it: `pip install --upgrade persona-steering`.",
            )
        layers = header.pop("layers")
        digest = header.pop("digest")
        if not isinstance(digest, str) or not all(type(layer) is int for layer in layers):
            raise ValueError("layers or digest")
        return Header(VectorMetadata.model_validate(header), tuple(layers), digest)
    except VectorFileError:
        raise
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise VectorFileError(f"{where}: its metadata are not valid at {key}: {first['msg']}.") from exc
    except (PersonaSteeringError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise VectorFileError(f"{where}: its metadata cannot be read ({exc}).", hint=_COPY_AGAIN) from exc
