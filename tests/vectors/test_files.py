from __future__ import annotations

import errno
import os

import pytest

from persona_steering.errors import NotFoundError, StorageError
from persona_steering.files import atomic_writer
from persona_steering.vectors.files import read_bytes, write_atomically


def test_a_write_replaces_the_whole_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"first, longer")
    write_atomically(path, b"second")
    assert read_bytes(path) == b"second"
    assert read_bytes(path, 3) == b"sec"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "not writable"), (errno.EIO, "not written")],
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, code, message):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=message):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_written_in_parts_appears_when_the_last_part_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_writer(path) as file:
        file.write(b"first, ")
        assert path.read_bytes() == b"old"
        file.write(b"second")
    assert path.read_bytes() == b"first, second"
    with pytest.raises(ValueError, match="broken off"), atomic_writer(path) as file:
        file.write(b"half")
        raise ValueError("broken off")
    assert path.read_bytes() == b"first, second"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "taken" / "file", b"new")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="gone"):
        read_bytes(tmp_path / "gone")
