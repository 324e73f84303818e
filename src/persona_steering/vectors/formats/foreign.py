"""What every file of another tool goes through: a safe reading, then directions with honest metadata.

A foreign file says little about itself. `Import` carries what the caller asserts (name, kind, model); what
nobody said stays unsaid: a vector without a model is refused by `check_model` until it is imported with one.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from persona_steering.errors import DependencyError, VectorError, VectorFileError
from persona_steering.vectors.files import read_bytes, write_atomically
from persona_steering.vectors.metadata import (
    ModelIdentity,
    VectorKind,
    VectorMetadata,
    check_name,
    package_version,
    suggest_name,
)
from persona_steering.vectors.vector import SteeringVector, replace_metadata

Array = NDArray[np.float32]
MAX_VALUES = 64 * 1024 * 1024  # of all tensors of a file: 100 layers of 600 000
MAX_ITEMS = 1_000_000  # tensors, lists, keys and plain values
_NOT_TORCHS = "Ask its author for safetensors."

# POSIX, home, Windows drive, UNC, URL: the folders of somebody's disk
_ABSOLUTE_PATH = re.compile(r"\s*(/|~|[A-Za-z]:[\\/]|\\\\|file:)")


@dataclass(frozen=True)
class Import:
    """One file being imported, and what the caller asserts about it."""

    path: Path
    name: str | None = None
    kind: VectorKind | None = None
    model: ModelIdentity | None = None

    def error(self, message: str, hint: str = "") -> VectorFileError:
        return VectorFileError(f"{self.path}: {message}", hint=hint)

    def vector(
        self,
        directions: Mapping[int, Array],
        *,
        source: str,
        kind: VectorKind,
        sign: str,
        name: str | None = None,
        description: str = "",
        pooling: str = "response_mean",
        opposite: str = "",
        counts: Mapping[str, int] | None = None,
        thresholds: Mapping[str, dict[int, float]] | None = None,
        settings: Mapping[str, JsonValue] | None = None,
    ) -> SteeringVector:
        """The imported vector: the caller's assertions win over what the file says.

        Raises: VectorFileError when the directions are not valid, or do not fit the asserted model.
        """
        metadata = VectorMetadata(
            name=check_name(self.name) if self.name is not None else suggest_name(name or self.path.stem),
            kind=self.kind or kind,
            description=description,
            model=self.model,
            sign=sign,
            pooling=pooling,
            source=f"import:{source}",
            opposite=opposite,
            counts=dict(counts or {}),
            thresholds=dict(thresholds or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            package_version=package_version(),
            settings=dict(settings or {}),
        )
        return SteeringVector(directions, metadata)

    def adopt(self, vector: SteeringVector) -> SteeringVector:
        """A vector from a file that says what it is, under the caller's name.

        The model that the caller asserts is taken only where the file names none.
        Raises: ModelMismatchError for another model, VectorFileError for another kind or shapes that do not fit.
        """
        metadata = vector.metadata
        if self.kind is not None and self.kind != metadata.kind:
            raise self.error(f"it holds a {metadata.kind}, not a {self.kind}.", "Leave the kind out.")
        if self.model is not None and metadata.model is not None:
            vector.check_model(self.model)
        elif self.model is not None:
            metadata = metadata.model_copy(update={"model": self.model})
        if self.name is not None:
            metadata = metadata.model_copy(update={"name": check_name(self.name)})
        return replace_metadata(vector, metadata)


def rows(origin: Import, value: object, what: str) -> Array:
    """A payload entry as float32 `[rows, hidden]`. Raises: VectorFileError for anything else."""
    if not isinstance(value, np.ndarray) or value.ndim != 2 or 0 in value.shape:
        raise origin.error(f"{what} is {describe(value)}, not a tensor [layers, hidden].")
    return value


def describe(value: object) -> str:
    """A payload in a few words, for an error message."""
    if isinstance(value, np.ndarray):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, list(value)[:8])) or 'nothing'}"
    return f"a {type(value).__name__}"


def plain(value: object) -> JsonValue:
    """The JSON part of foreign metadata: tensors, absolute paths and what is not JSON are dropped.

    A value that is nothing else becomes None.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if _keeps(k) and _keeps(v)}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value if _keeps(v)]
    if isinstance(value, (bool, int, float, str)) and _keeps(value):
        return value
    return None


def text(value: object) -> str:
    """A foreign text, or "" when it is none or an absolute path."""
    return value if isinstance(value, str) and _keeps(value) else ""


def _keeps(value: object) -> bool:
    if isinstance(value, str):
        return not _ABSOLUTE_PATH.match(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, list, tuple, Mapping))


def load_pt(path: Path) -> object:
    """A `.pt` file as plain values, its tensors as float32 arrays.

    Raises: NotFoundError, DependencyError without torch, VectorFileError for a damaged file, and for a pickle
        that needs more than tensors and plain values: it is refused unread. So is what unpacks to more than it is.
    """
    torch = _torch(path)
    data = read_bytes(path)
    _check_packing(path, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of here is refused or converted below
            payload = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return _Plain(path, torch).of(payload)
    except VectorFileError:
        raise
    except pickle.UnpicklingError as exc:
        if "GLOBAL" in str(exc) or "allowed global" in str(exc):
            raise VectorFileError(
                f"{path} is refused: it would execute code.",
                hint="Ask its author for a file that holds tensors only, best safetensors.",
            ) from exc
        raise VectorFileError(
            f"{path} is refused: it is damaged, or a pickle that could execute code.",
            hint="Copy it again from its source, or ask its author for safetensors.",
        ) from exc
    except Exception as exc:  # torch's parser raises almost anything on damaged bytes
        raise VectorFileError(f"{path} is truncated or not a .pt file.", hint="Copy it again from its source.") from exc


def save_pt(path: Path, payload: Mapping[str, object] | Array) -> None:
    """Write arrays (also those inside dicts) as float32 tensors, atomically, so that `weights_only=True` reads them.

    Raises: DependencyError without torch, StorageError.
    """
    torch = _torch(path)

    def tensor(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: tensor(item) for key, item in value.items()}
        return torch.from_numpy(np.array(value, dtype=np.float32)) if isinstance(value, np.ndarray) else value

    buffer = io.BytesIO()
    torch.save(tensor(payload), buffer)
    write_atomically(path, buffer.getvalue())


def stack_layers(vector: SteeringVector, count: int, *, source: str) -> Array:
    """The directions of layers 0 to `count` - 1 as `[count, hidden]`.

    Raises: VectorError when one is missing, because a row of zeros would silently not steer.
    """
    missing = [layer for layer in range(count) if layer not in vector.directions]
    if missing:
        raise VectorError(
            f"vector {vector.name!r} has no direction at layers {missing}; a {source} file holds them all.",
            hint="Extract it at every layer.",
        )
    return np.stack([vector.directions[layer] for layer in range(count)])


def known_model(vector: SteeringVector, *, source: str) -> ModelIdentity:
    """The vector's model, whose number of layers a bare tensor depends on. Raises: VectorError."""
    if vector.metadata.model is None:
        raise VectorError(
            f"vector {vector.name!r} does not name its model, whose number of layers a {source} file needs.",
            hint="Import it again and name the model.",
        )
    return vector.metadata.model


def _torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as exc:
        raise DependencyError(f"{path.name} needs torch, which is not installed.", hint="Install torch.") from exc
    return torch


def _check_packing(path: Path, data: bytes) -> None:
    """Refuses a zip that is compressed, which torch never writes: a small file could fill the memory."""
    if not data.startswith(b"PK"):
        return
    with contextlib.suppress(zipfile.BadZipFile, ValueError, EOFError), zipfile.ZipFile(io.BytesIO(data)) as file:
        members = file.infolist()
        packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
        if packed or sum(member.file_size for member in members) > len(data):
            raise VectorFileError(f"{path} is refused: it would unpack to more than it is.", hint=_NOT_TORCHS)


class _Plain:
    """Turns what torch has read into plain values, as long as there are not too many of them.

    A few bytes can stand for very many: a tensor that repeats one value, or lists that hold one another.
    """

    def __init__(self, path: Path, torch: Any) -> None:
        self._path, self._torch = path, torch
        self._values = self._items = 0

    def of(self, value: object) -> object:
        """The same without torch. Raises VectorFileError beyond the bounds, ValueError for complex numbers."""
        self._items += 1
        if isinstance(value, self._torch.Tensor):
            tensor: Any = value
            if tensor.is_complex():
                raise ValueError("complex tensor")
            self._values += tensor.numel()
            self._check()
            return tensor.detach().to(self._torch.float32).contiguous().numpy()
        self._check()
        if isinstance(value, Mapping):
            return {key: self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in value]
        return value

    def _check(self) -> None:
        if self._values > MAX_VALUES or self._items > MAX_ITEMS:
            raise VectorFileError(f"{self._path} is refused: it holds more than any vector.", hint=_NOT_TORCHS)
