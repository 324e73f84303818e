"""The native format: safetensors with one float32 tensor `layer.{i}` per layer.

The header's `__metadata__` has one key, `persona_steering`: the vector's metadata as JSON, and beside it
`layers` (so that a missing tensor is noticed) and `digest` (so that a changed value is).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from persona_steering.errors import NotFoundError, PersonaSteeringError, VectorFileError
from persona_steering.vectors.files import write_atomically
from persona_steering.vectors.metadata import SCHEMA_VERSION, VectorMetadata
from persona_steering.vectors.vector import Direction, SteeringVector

METADATA_KEY = "persona_steering"


@dataclass(frozen=True)
class Header:
    """The metadata of a file, and which layers and values (by their digest) it says that it holds."""

    metadata: VectorMetadata
    layers: tuple[int, ...]
    digest: str


def to_bytes(vector: SteeringVector) -> bytes:
    """The file's content; equal vectors give equal bytes."""
    header = vector.metadata.model_dump(mode="json")
    header |= {"layers": list(vector.layers), "digest": vector.digest}
    tensors = {f"layer.{layer}": direction for layer, direction in vector.directions.items()}
    return bytes(save(tensors, metadata={METADATA_KEY: json.dumps(header, ensure_ascii=False)}))


def write(path: Path, vector: SteeringVector) -> None:
    """Write atomically. Raises: StorageError when the disk is full or not writable."""
    write_atomically(path, to_bytes(vector))


def read(path: Path) -> SteeringVector:
    """The vector in a file, verified.

    Raises: NotFoundError, VectorFileError when it is truncated, incomplete, changed or of a newer schema.
    """
    directions: dict[int, Direction] = {}
    with _Reading(path), safe_open(path, framework="np") as file:
        header = _header(path, file.metadata())
        expected = {f"layer.{layer}" for layer in header.layers}
        if expected != set(file.keys()):
            odd = sorted(expected ^ set(file.keys()))
            raise VectorFileError(f"{path} is incomplete: tensors {', '.join(odd)}.", hint=_COPY_AGAIN)
        for layer in header.layers:
            directions[layer] = file.get_tensor(f"layer.{layer}")
            if directions[layer].dtype != np.float32:
                dtype = directions[layer].dtype
                raise VectorFileError(f"{path}: layer {layer} is {dtype}, not float32.", hint=_COPY_AGAIN)
    vector = SteeringVector(directions, header.metadata)
    if vector.digest != header.digest:
        raise VectorFileError(f"{path} is damaged: its values are not those written.", hint=_COPY_AGAIN)
    return vector


def read_header(path: Path) -> Header:
    """What is known without reading a tensor. Raises: NotFoundError, VectorFileError."""
    with _Reading(path), safe_open(path, framework="np") as file:
        return _header(path, file.metadata())


_COPY_AGAIN = "Copy it again from its source, or extract the vector again."


class _Reading:
    """Turns what goes wrong while reading a file into our errors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        if not self.path.is_file():
            raise NotFoundError(f"there is no file {self.path}.", hint="Check the path.")

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, OSError):
            raise VectorFileError(f"{self.path} cannot be read: {exc.strerror or exc}.") from exc
        if isinstance(exc, (SafetensorError, TypeError, ValueError, OverflowError)):
            raise VectorFileError(
                f"{self.path} is truncated or not a safetensors file ({exc}).", hint=_COPY_AGAIN
            ) from exc


def _header(path: Path, raw: dict[str, str] | None) -> Header:
    """Metadata, layers and digest out of the header's `__metadata__`."""
    if not raw or METADATA_KEY not in raw:
        raise VectorFileError(
            f"{path} is a safetensors file, but not a steering vector of this package.",
            hint="Only files that persona-steering wrote can be read from safetensors.",
        )
    try:
        header = json.loads(raw[METADATA_KEY])
        version = header["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise VectorFileError(
                f"{path} has schema version {version}, and this version of persona-steering reads up to "
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
        where = ".".join(str(part) for part in first["loc"])
        raise VectorFileError(f"{path}: its metadata are not valid at {where}: {first['msg']}.") from exc
    except (PersonaSteeringError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise VectorFileError(f"{path}: its metadata cannot be read ({exc}).", hint=_COPY_AGAIN) from exc
