from __future__ import annotations

import builtins
import pickle
import zipfile

import numpy as np
import pytest
import torch

from persona_steering.errors import (
    DependencyError,
    ModelMismatchError,
    NotFoundError,
    UsageError,
    VectorFileError,
)
from persona_steering.vectors import formats, replace_metadata
from persona_steering.vectors.formats import foreign, safetensors


def test_a_format_is_told_by_content_whatever_the_file_is_called(tmp_path, saved, make_vector, make_model):
    safetensors.write(tmp_path / "a.pt", make_vector(layers=[0]))
    assert formats.read(tmp_path / "a.pt").digest == make_vector(layers=[0]).digest
    assert formats.read(saved(torch.ones(6, 8), "b.json"), model=make_model()).metadata.kind == "axis"
    (tmp_path / "c.safetensors").write_text('\n {"trait_id": "calm", "vectors": {"layer_1": [1.0]}}')
    assert formats.read(tmp_path / "c.safetensors").name == "calm"
    assert formats.read(saved({"per_layer_vectors": {4: torch.ones(8)}, "name": "sage"}, "d")).layers == (4,)
    role = {"vector": torch.ones(2, 8), "type": "mean", "role": "pirate"}
    assert formats.read(saved(role, "e.bin")).name == "pirate"


def test_a_native_file_is_known_whatever_the_length_of_its_header(tmp_path, make_vector):
    beginnings = set()
    for length in range(0, 256, 8):
        vector = make_vector(layers=[0], description="x" * length)
        safetensors.write(tmp_path / "v", vector)
        beginnings.add((tmp_path / "v").read_bytes()[:1])
        assert formats.read(tmp_path / "v").digest == vector.digest
    assert b"\x80" in beginnings  # which a pickle begins with too


def test_torchs_old_container_is_read_too(tmp_path):
    torch.save(torch.ones(4, 8), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert formats.read(tmp_path / "old.pt", written_by="assistant-axis").layers == (0, 1, 2, 3)


def test_a_bare_tensor_is_told_by_the_models_layers(saved, make_model):
    model = make_model(num_layers=6)
    assert formats.read(saved(torch.ones(7, 8)), model=model).metadata.source == "import:persona_vectors"
    assert formats.read(saved(torch.ones(6, 8)), model=model).metadata.source == "import:assistant-axis"
    with pytest.raises(VectorFileError, match=r"neither 7 rows.*nor 6"):
        formats.read(saved(torch.ones(5, 8)), model=model)


def test_a_bare_tensor_without_a_model_needs_a_writer(saved):
    path = saved(torch.ones(7, 8))
    with pytest.raises(VectorFileError, match="who wrote it: 'persona_vectors' or 'assistant-axis'"):
        formats.read(path)
    assert formats.read(path, written_by="persona_vectors").layers == (0, 1, 2, 3, 4)
    assert formats.read(path, written_by="assistant-axis").layers == tuple(range(7))
    with pytest.raises(UsageError, match="Did you mean 'persona_vectors'"):
        formats.read(path, written_by="persona-vectors")


def test_a_writer_that_contradicts_the_model_is_refused(saved, make_model):
    with pytest.raises(VectorFileError, match="model of 6 layers"):
        formats.read(saved(torch.ones(7, 8)), written_by="persona_vectors", model=make_model(num_layers=7))


def test_an_import_belongs_to_the_model_the_caller_asserts_or_to_none(saved, make_model):
    path = saved({"per_layer_vectors": {4: torch.ones(8)}, "name": "sage"})
    formats.read(path, model=make_model()).check_model(make_model())
    with pytest.raises(ModelMismatchError):
        formats.read(path).check_model(make_model())
    with pytest.raises(VectorFileError, match="9 are expected"):
        formats.read(path, model=make_model(hidden_size=9))


def test_a_native_file_keeps_its_model_whatever_the_caller_asserts(tmp_path, make_vector, make_model):
    path = tmp_path / "v.safetensors"
    vector = make_vector()
    safetensors.write(path, vector)
    assert formats.read(path, model=make_model("alias"), name="wizard").name == "wizard"
    with pytest.raises(ModelMismatchError):
        formats.read(path, model=make_model(fingerprint="ffff"))
    safetensors.write(path, replace_metadata(vector, vector.metadata.model_copy(update={"model": None})))
    assert formats.read(path, model=make_model()).metadata.model == make_model()


def test_a_name_is_checked_when_given_and_made_when_not(saved):
    path = saved(torch.ones(4, 8), "Évil Vector!.pt")
    assert formats.read(path, written_by="assistant-axis").name == "vil-vector"
    assert formats.read(path, written_by="assistant-axis", name="evil").name == "evil"
    with pytest.raises(UsageError, match="evil-vector"):
        formats.read(path, written_by="assistant-axis", name="Evil Vector")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {"axis": torch.ones(3, 4), "metadata": e}])
def test_a_torch_file_that_needs_code_is_refused_and_nothing_runs(tmp_path, runs_code, wrap, old):
    evil, proof = runs_code
    path = tmp_path / "evil.pt"
    torch.save(wrap(evil), path, _use_new_zipfile_serialization=not old)
    with pytest.raises(VectorFileError, match="refused: it would execute code"):
        formats.read(path, written_by="persona_vectors")
    assert not proof.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_refused_and_nothing_runs(tmp_path, runs_code, protocol):
    evil, proof = runs_code
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(evil, protocol))
    with pytest.raises(VectorFileError, match="refused"):
        formats.read(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())
    assert proof.exists()  # the file was indeed dangerous


def test_a_torch_file_cut_anywhere_is_refused(tmp_path, saved):
    data = saved(torch.ones(4, 8)).read_bytes()
    for length in range(4, len(data), 50):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        with pytest.raises(VectorFileError):
            formats.read(tmp_path / "cut.pt", written_by="persona_vectors")


def test_a_torch_file_that_unpacks_to_more_than_it_is_is_refused_unread(tmp_path, saved, monkeypatch):
    whole = saved(torch.zeros(200, 1000))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 5000
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was read"))
    with pytest.raises(VectorFileError, match="unpack to more"):
        formats.read(tmp_path / "bomb.pt", written_by="assistant-axis")


def test_a_few_bytes_that_stand_for_very_many_values_are_refused(saved):
    nested = [0.0] * 10
    for _ in range(20):
        nested = [nested] * 10
    for payload in (torch.zeros(1).expand(1 << 30), nested, {"axis": torch.zeros(1, 1).expand(1 << 15, 1 << 14)}):
        path = saved(payload)
        assert path.stat().st_size < 5000
        with pytest.raises(VectorFileError, match="more than any vector"):
            formats.read(path, written_by="assistant-axis")


@pytest.mark.parametrize(
    "payload",
    [None, 3, "text", [torch.ones(3)], {}, {"axis": torch.ones(3)}, {"x": 1}, torch.ones(3, 4) * 1j],
)
def test_a_torch_file_of_something_else_is_refused(saved, payload):
    with pytest.raises(VectorFileError):
        formats.read(saved(payload), written_by="assistant-axis")


def test_files_of_no_known_format_are_refused(tmp_path):
    path = tmp_path / "x"
    for content, message in [
        (b"", "empty"),
        (b"GGUF\x03\x00\x00\x00", "truncated"),
        (b"hello, this is text", "known format"),
        (b"{broken", "JSON"),
        (b"[1, 2]", "known format"),
        (b'{"a": 1}', "JSON vector file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(VectorFileError, match=message):
            formats.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(VectorFileError, match=r"not a \.pt file"):
        formats.read(path)
    with pytest.raises(NotFoundError):
        formats.read(tmp_path / "gone")
    with pytest.raises(VectorFileError, match="cannot be read"):
        formats.read(tmp_path)


def test_without_torch_a_pt_file_says_what_is_missing(saved, monkeypatch):
    path = saved(torch.ones(4, 8))
    real = builtins.__import__

    def no_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    with pytest.raises(DependencyError, match="torch"):
        formats.read(path)


def test_foreign_metadata_keep_only_what_is_json():
    value = {"a": np.ones(3), "b": (1, 2.5, None, "x"), "c": float("nan"), 4: {"d": b"x"}, "e": [np.ones(1)]}
    assert foreign.plain(value) == {"b": [1, 2.5, None, "x"], "4": {}, "e": []}
