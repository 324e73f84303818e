"""Vector files, told apart by what they contain and never by what they are called. `writing` is the other way.

To add a format: one module beside this one, and one line in the table of its container.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from persona_steering.errors import UsageError, VectorFileError, nearest
from persona_steering.vectors.files import read_bytes
from persona_steering.vectors.formats import archive, assistant_axis_pt, gguf, legacy, persona_vectors_pt, safetensors
from persona_steering.vectors.formats.foreign import Import, describe, load_pt
from persona_steering.vectors.metadata import ModelIdentity, VectorKind, check_name
from persona_steering.vectors.vector import SteeringVector

__all__ = ["PT_READERS", "READERS", "Writer", "container", "read"]

PtWriter = Literal["persona_vectors", "assistant-axis"]
Writer = Literal["persona_vectors", "assistant-axis", "repeng", "cvector-generator"]


def read(
    path: Path,
    *,
    name: str | None = None,
    model: ModelIdentity | None = None,
    written_by: Writer | None = None,
    kind: VectorKind | None = None,
) -> SteeringVector:
    """The vector in any file this package knows; of an archive, its vector alone.

    name: what to call it; otherwise what the file says, or the file's own name.
    model: the model that the caller asserts it was made for; a file that says otherwise is refused.
    written_by: the tool that made it, where the content does not tell: a bare `.pt` tensor read without a model, and
        the meaning of the layer numbers of a GGUF file.
    kind: what a file that does not say holds.
    Raises: NotFoundError, UsageError for an invalid name or writer, ModelMismatchError, VectorFileError
        when the file is damaged, ambiguous, of no known format, or a pickle that would execute code.
    """
    path = Path(path)
    if name is not None:
        check_name(name)
    if written_by is not None and written_by not in get_args(Writer):
        raise UsageError(f"unknown writer {written_by!r}.", hint=nearest(written_by, get_args(Writer)))
    found = container(path)
    if written_by is not None and written_by not in WRITERS.get(found, ()):
        raise UsageError(f"{path} is {found}, which {written_by!r} does not write.", hint="Leave out who wrote it.")
    return READERS[found](Import(path, name=name, kind=kind, model=model), written_by)


def container(path: Path) -> str:
    """Which of READERS reads a file. Raises: NotFoundError, VectorFileError for a file that none of them reads."""
    start = read_bytes(path, 64)
    # first, because the length that it begins with can look like the beginning of a pickle
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return "safetensors"
    if archive.is_archive(start):
        return "archive"
    if start.startswith((b"PK\x03\x04", b"\x80")):  # torch's zip, and the bare pickle of old or foreign files
        return "pt"
    if start.startswith(gguf.MAGIC):
        return "gguf"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "json"
    raise VectorFileError(
        f"{path} is not a vector file of a known format." if start else f"{path} is empty.",
        hint="Known: safetensors and archives of this package, .pt of persona_vectors and assistant-axis, GGUF control "
        "vectors, .pt and JSON of the two earlier systems.",
    )


def _read_native(origin: Import, written_by: Writer | None) -> SteeringVector:
    return origin.adopt(safetensors.read(origin.path))


def _read_archive(origin: Import, written_by: Writer | None) -> SteeringVector:
    return origin.adopt(archive.read(origin.path).vector)


def _read_gguf(origin: Import, written_by: Writer | None) -> SteeringVector:
    return gguf.read(origin, cast("gguf.Writer | None", written_by))


def _read_pt(origin: Import, written_by: Writer | None) -> SteeringVector:
    payload = load_pt(origin.path)
    if isinstance(payload, np.ndarray):
        return PT_READERS[written_by or _writer(payload, origin)](payload, origin)
    if written_by is not None and written_by != "assistant-axis":
        raise origin.error(f"it holds {describe(payload)}, and {written_by} writes bare tensors.")
    if legacy.is_legacy_pt(payload):
        return PT_READERS["legacy"](payload, origin)
    if isinstance(payload, Mapping):
        return PT_READERS["assistant-axis"](payload, origin)
    raise origin.error(f"it holds {describe(payload)}, which is no known vector file.")


def _read_json(origin: Import, written_by: Writer | None) -> SteeringVector:
    return legacy.parse_json(legacy.load_json(origin.path), origin)


def _writer(tensor: NDArray[Any], origin: Import) -> PtWriter:
    """Which tool wrote a bare tensor `[rows, hidden]`: L + 1 rows, or L."""
    count = tensor.shape[0] if tensor.ndim == 2 else 0
    if origin.model is None:
        raise origin.error(
            f"a bare tensor of {count} rows can be persona_vectors (row k = layer k-1) or assistant-axis "
            "(row i = layer i), and nothing in it tells which.",
            "Name the model, or who wrote it: 'persona_vectors' or 'assistant-axis'.",
        )
    layers = origin.model.num_layers
    writers: dict[int, PtWriter] = {layers + 1: "persona_vectors", layers: "assistant-axis"}
    if count not in writers:
        raise origin.error(
            f"{describe(tensor)} fits neither {layers + 1} rows (persona_vectors) nor {layers} "
            f"(assistant-axis) of {origin.model}.",
            "Name the model that it was made for.",
        )
    return writers[count]


READERS: dict[str, Callable[[Import, Writer | None], SteeringVector]] = {
    "safetensors": _read_native,
    "archive": _read_archive,
    "pt": _read_pt,
    "gguf": _read_gguf,
    "json": _read_json,
}

# Who writes what the content alone does not tell apart.
WRITERS: dict[str, tuple[str, ...]] = {"pt": get_args(PtWriter), "gguf": get_args(gguf.Writer)}

PT_READERS: dict[str, Callable[[object, Import], SteeringVector]] = {
    "persona_vectors": persona_vectors_pt.parse,
    "assistant-axis": assistant_axis_pt.parse,
    "legacy": legacy.parse_pt,
}
