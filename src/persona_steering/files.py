"""Whole files, all or nothing: nothing half-written is ever left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from persona_steering.errors import StorageError


def write_atomically(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace a file by these bytes, or leave everything as it was. Makes the folder if need be.

    private: nobody but its owner may read it, at no moment.

    Raises: StorageError when the disk is full or not writable.
    """
    with atomic_writer(path, private=private) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_writer(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """What is written in the block replaces a file when the block ends well; else everything is left as it was.

    For what is too large to be held at once. Makes the folder if need be. `private` is as in `write_atomically`.
    Raises: StorageError when the disk is full or not writable.
    """
    # The same folder, because os.replace is atomic only within one file system.
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600 if private else 0o666  # less what the umask takes
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        raise storage_error(exc, path) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def storage_error(exc: OSError, path: Path) -> StorageError:
    """An operating system's refusal to write, in words."""
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(
            f"{path} was not written: the disk is full.", hint="Free some space, or choose another folder."
        )
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StorageError(
            f"{path} was not written: the folder is not writable.",
            hint="Change its permissions, or choose another folder.",
        )
    return StorageError(f"{path} was not written: {exc.strerror or exc}.", hint="Choose another folder.")
