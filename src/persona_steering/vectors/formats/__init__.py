"""Vector files, told apart by what they contain and never by what they are called.

To add a format: one module beside this one, and one line in the table of its container.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from persona_steering.errors import UsageError, VectorFileError, nearest
from persona_steering.vectors.files import read_bytes
from persona_steering.vectors.formats import assistant_axis_pt, legacy, persona_vectors_pt, safetensors
from persona_steering.vectors.formats.foreign import Import, describe, load_pt
from persona_steering.vectors.metadata import ModelIdentity, VectorKind, check_name
from persona_steering.vectors.vector import SteeringVector, replace_metadata

__all__ = ["PT_READERS", "READERS", "Convention", "read"]

Convention = Literal["persona_vectors", "assistant-axis"]


def read(
    path: Path,
    *,
    name: str | None = None,
    model: ModelIdentity | None = None,
    convention: Convention | None = None,
    kind: VectorKind | None = None,
) -> SteeringVector:
    """The vector in any file this package knows.

    name: what to call it; otherwise what the file says, or the file's own name.
    model: the model that the caller asserts it was made for; a file that says otherwise is refused.
    convention: the layout of a bare `.pt` tensor, needed when no model tells it.
    kind: what a file that does not say holds.
    Raises: NotFoundError, UsageError for an invalid name or convention, ModelMismatchError, VectorFileError
        when the file is damaged, ambiguous, of no known format, or a pickle that would execute code.
    """
    path = Path(path)
    if name is not None:
        check_name(name)
    if convention is not None and convention not in get_args(Convention):
        raise UsageError(f"unknown convention {convention!r}.", hint=nearest(convention, get_args(Convention)))
    return READERS[_container(path)](Import(path, name=name, kind=kind, model=model), convention)


def _container(path: Path) -> str:
    start = read_bytes(path, 64)
    if start.startswith((b"PK\x03\x04", b"\x80")):  # torch's zip, and the bare pickle of old or foreign files
        return "pt"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return "safetensors"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "json"
    raise VectorFileError(
        f"{path} is not a vector file of a known format." if start else f"{path} is empty.",
        hint="Known: safetensors of this package, .pt of persona_vectors and assistant-axis, .pt and JSON of "
        "the two earlier systems.",
    )


def _read_native(origin: Import, convention: Convention | None) -> SteeringVector:
    vector = safetensors.read(origin.path)
    metadata = vector.metadata
    if origin.model is not None:
        if metadata.model is not None:
            vector.check_model(origin.model)
        else:
            metadata = metadata.model_copy(update={"model": origin.model})
    if origin.name is not None:
        metadata = metadata.model_copy(update={"name": origin.name})
    return replace_metadata(vector, metadata)


def _read_pt(origin: Import, convention: Convention | None) -> SteeringVector:
    payload = load_pt(origin.path)
    if isinstance(payload, np.ndarray):
        return PT_READERS[convention or _convention(payload, origin)](payload, origin)
    if legacy.is_legacy_pt(payload):
        return PT_READERS["legacy"](payload, origin)
    if isinstance(payload, Mapping):
        return PT_READERS["assistant-axis"](payload, origin)
    raise origin.error(f"it holds {describe(payload)}, which is no known vector file.")


def _read_json(origin: Import, convention: Convention | None) -> SteeringVector:
    return legacy.parse_json(legacy.load_json(origin.path), origin)


def _convention(tensor: NDArray[Any], origin: Import) -> Convention:
    """Which tool wrote a bare tensor `[rows, hidden]`: L + 1 rows, or L."""
    count = tensor.shape[0] if tensor.ndim == 2 else 0
    if origin.model is None:
        raise origin.error(
            f"a bare tensor of {count} rows can be persona_vectors (row k = layer k-1) or assistant-axis "
            "(row i = layer i), and nothing in it tells which.",
            "Name the model, or the convention: 'persona_vectors' or 'assistant-axis'.",
        )
    layers = origin.model.num_layers
    conventions: dict[int, Convention] = {layers + 1: "persona_vectors", layers: "assistant-axis"}
    if count not in conventions:
        raise origin.error(
            f"{describe(tensor)} fits neither {layers + 1} rows (persona_vectors) nor {layers} "
            f"(assistant-axis) of {origin.model}.",
            "Name the model that it was made for.",
        )
    return conventions[count]


READERS: dict[str, Callable[[Import, Convention | None], SteeringVector]] = {
    "safetensors": _read_native,
    "pt": _read_pt,
    "json": _read_json,
}

PT_READERS: dict[str, Callable[[object, Import], SteeringVector]] = {
    "persona_vectors": persona_vectors_pt.parse,
    "assistant-axis": assistant_axis_pt.parse,
    "legacy": legacy.parse_pt,
}
