from __future__ import annotations

import errno
import os

import pytest

from persona_steering.errors import (
    ModelMismatchError,
    NotFoundError,
    StorageError,
    UsageError,
    VectorError,
    VectorFileError,
)
from persona_steering.vectors import VectorStore, replace_metadata
from persona_steering.vectors.formats import safetensors


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("persona", "personas"), ("trait", "traits"), ("axis", "axes"), ("baseline", "axes")],
)
def test_each_kind_has_its_folder_and_comes_back_as_saved(store, make_vector, make_model, kind, folder):
    vector = make_vector("sage", kind=kind)
    path = store.save(vector)
    assert path == store.root / make_model().slug / folder / "sage.safetensors"
    assert store.exists(kind, "sage", make_model())
    loaded = store.load(kind, "sage", make_model())
    assert loaded.digest == vector.digest
    assert loaded.metadata == vector.metadata


def test_an_empty_store_lists_nothing_and_makes_no_folder(store, make_model):
    assert store.list() == []
    assert store.list(make_model()) == []
    assert not store.exists("persona", "sage", make_model())
    assert not store.root.exists()


def test_an_unknown_name_is_refused_with_the_nearest_of_its_kind(store, make_vector, make_model):
    store.save(make_vector("trickster"))
    store.save(make_vector("tricky", kind="trait"))
    with pytest.raises(NotFoundError, match="'trickster'") as caught:
        store.load("persona", "trikster", make_model())
    assert "tricky" not in str(caught.value)
    with pytest.raises(NotFoundError):
        store.delete("persona", "trikster", make_model())


def test_a_vector_of_another_model_only_is_refused_by_that_models_name(store, make_vector, make_model):
    other = make_model("hf:other/model", fingerprint="ffffffffffff")
    store.save(make_vector(model=other))
    assert not store.exists("persona", "sage", make_model())
    for act in (store.load, store.delete):
        with pytest.raises(ModelMismatchError, match=r"hf:other/model.*hf:tiny/llama.*transfer"):
            act("persona", "sage", make_model())


def test_another_id_of_the_same_model_finds_and_replaces_its_vectors(store, make_vector, make_model):
    path = store.save(make_vector(seed=1))
    alias = make_model("local-folder")
    assert store.load("persona", "sage", alias).digest == make_vector(seed=1).digest
    assert [stored.name for stored in store.list(alias)] == ["sage"]
    assert store.save(make_vector(seed=2, model=alias)) == path
    assert store.load("persona", "sage", make_model()).digest == make_vector(seed=2).digest


def test_a_file_copied_into_another_models_folder_is_refused(store, make_vector, make_model):
    other = make_model("hf:other", fingerprint="ffff0000")
    target = store.path("persona", "sage", other)
    safetensors.write(target, make_vector())
    with pytest.raises(ModelMismatchError, match="hf:tiny/llama"):
        store.load("persona", "sage", other)


def test_a_renamed_file_is_the_vector_of_its_new_name(store, make_vector, make_model):
    path = store.save(make_vector())
    path.rename(path.with_name("wizard.safetensors"))
    assert store.load("persona", "wizard", make_model()).name == "wizard"


def test_an_axis_and_a_baseline_cannot_share_a_name(store, make_vector, make_model):
    store.save(make_vector("assistant", kind="axis"))
    with pytest.raises(VectorError, match="axis 'assistant'"):
        store.save(make_vector("assistant", kind="baseline"))
    with pytest.raises(NotFoundError):
        store.load("baseline", "assistant", make_model())


def test_a_vector_without_a_model_has_no_place(store, make_vector):
    vector = make_vector()
    homeless = replace_metadata(vector, vector.metadata.model_copy(update={"model": None}))
    with pytest.raises(VectorError, match="which model"):
        store.save(homeless)


@pytest.mark.parametrize("name", ["../sage", "a/b", "", "Sage", "sage.safetensors", "a\0", "x" * 65])
def test_a_name_that_is_not_valid_never_becomes_a_path(store, make_model, name):
    for act in (store.path, store.exists, store.load, store.delete):
        with pytest.raises(UsageError):
            act("persona", name, make_model())


def test_a_list_reads_metadata_and_shows_broken_files_without_failing(store, make_vector, make_model):
    store.save(make_vector("sage"))
    store.save(make_vector("calm", kind="trait"))
    broken = store.save(make_vector("torn"))
    broken.write_bytes(broken.read_bytes()[:-7])
    (broken.parent / ".x.safetensors.1-2.tmp").write_bytes(b"left by a crash")
    (broken.parent / "notes.txt").write_text("not a vector")
    store.save(make_vector("far", model=make_model("hf:z", fingerprint="ffff0000")))
    listed = store.list(make_model())
    assert [(s.folder, s.name, bool(s.error)) for s in listed] == [
        ("personas", "sage", False),
        ("personas", "torn", True),
        ("traits", "calm", False),
    ]
    assert listed[0].metadata == make_vector("sage").metadata
    assert listed[1].metadata is None
    assert {s.name for s in store.list()} == {"sage", "torn", "calm", "far"}


def test_a_broken_file_can_be_deleted_but_not_loaded(store, make_vector, make_model):
    path = store.save(make_vector())
    path.write_bytes(b"")
    with pytest.raises(VectorFileError):
        store.load("persona", "sage", make_model())
    store.delete("persona", "sage", make_model())
    assert not store.exists("persona", "sage", make_model())


def test_a_full_disk_keeps_the_vector_that_was_there(store, make_vector, make_model, monkeypatch):
    store.save(make_vector(seed=1))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        store.save(make_vector(seed=2))
    assert store.load("persona", "sage", make_model()).digest == make_vector(seed=1).digest
    assert len(list(store.root.rglob("*.*"))) == 1
