"""How this room reads files; they are written as everywhere (`persona_steering.files`)."""

from __future__ import annotations

from pathlib import Path

from persona_steering.errors import NotFoundError, VectorFileError
from persona_steering.files import storage_error, write_atomically

__all__ = ["read_bytes", "storage_error", "write_atomically"]


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """The file's bytes, or the first `limit` of them.

    Raises: NotFoundError, VectorFileError when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(-1 if limit is None else limit)
    except FileNotFoundError as exc:
        raise NotFoundError(f"there is no file {path}.", hint="Check the path.") from exc
    except OSError as exc:
        raise VectorFileError(f"{path} cannot be read: {exc.strerror}.", hint="Check its permissions.") from exc
