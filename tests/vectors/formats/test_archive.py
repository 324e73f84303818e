"""One zip for a vector and what belongs to it; what our writer would not have made is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import zipfile

import pytest

from persona_steering.errors import ModelMismatchError, NotFoundError, VectorFileError
from persona_steering.vectors import formats
from persona_steering.vectors.formats import archive, safetensors
from persona_steering.vectors.formats.archive import Archive


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sage.zip"


def forge(path, members, /, *, manifest=None, **changes):
    """A zip with a manifest that is true of `members`, changed by `changes`, or the given one."""
    described = {name: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in members.items()}
    about = {"format": "persona-steering archive", "schema_version": 1, "members": described} | changes
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", json.dumps(about) if manifest is None else manifest)
        for name, data in members.items():
            file.writestr(name, data)


def test_everything_comes_back(path, make_vector):
    sage = make_vector("sage", description="Speaks in parables.")
    safety = make_vector("safety", kind="axis", seed=1, thresholds={"1": {0: -1.0}})
    archive.write(path, Archive(sage, {"safety": safety}, card={"status": "ready"}, persona={"name": "sage"}))
    back = archive.read(path)
    assert (back.vector.digest, back.vector.metadata) == (sage.digest, sage.metadata)
    assert (back.axes["safety"].digest, back.axes["safety"].metadata) == (safety.digest, safety.metadata)
    assert (back.card, back.persona) == ({"status": "ready"}, {"name": "sage"})
    assert formats.read(path).digest == sage.digest


def test_equal_contents_give_equal_bytes_and_what_is_not_known_is_left_out(path, tmp_path, make_vector):
    for file in (path, tmp_path / "again.zip"):
        archive.write(file, Archive(make_vector()))
    assert path.read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert zipfile.ZipFile(path).namelist() == ["manifest.json", "vector.safetensors"]
    assert archive.read(path).card is None


def test_an_archive_is_imported_under_another_name_but_for_no_other_model(path, make_vector, make_model):
    archive.write(path, Archive(make_vector()))
    assert formats.read(path, name="wizard").name == "wizard"
    with pytest.raises(ModelMismatchError):
        formats.read(path, model=make_model(fingerprint="ffff"))


def test_a_torch_file_is_not_taken_for_an_archive_nor_the_other_way(path, saved, make_vector, make_model):
    import torch

    assert formats.container(saved(torch.ones(6, 8), "a.zip")) == "pt"
    archive.write(path.with_suffix(".pt"), Archive(make_vector()))
    assert formats.container(path.with_suffix(".pt")) == "archive"


def test_an_archive_cut_or_changed_anywhere_is_refused(path, make_vector):
    archive.write(path, Archive(make_vector(), card={"a": 1}))
    data = path.read_bytes()
    for length in range(50, len(data), 41):
        path.write_bytes(data[:length])
        with pytest.raises(VectorFileError):
            formats.read(path)
    for place in range(0, len(data), 29):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        with contextlib.suppress(VectorFileError):
            assert formats.read(path).digest == make_vector().digest  # a time stamp, say


@pytest.mark.parametrize(
    "name",
    ["../sage.safetensors", "/etc/passwd", "axes/../x.safetensors", "axes\\x", "axes/A.safetensors", "x.pkl", "axes/"],
)
def test_members_of_other_names_are_refused(path, make_vector, name):
    forge(path, {"vector.safetensors": safetensors.to_bytes(make_vector()), name: b"x"})
    with pytest.raises(VectorFileError, match="does not belong"):
        formats.read(path)


def test_links_are_refused(path, make_vector):
    forge(path, {"vector.safetensors": safetensors.to_bytes(make_vector())})
    link = zipfile.ZipInfo("card.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(VectorFileError, match=r"does not belong.*card\.json"):
        formats.read(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(path, make_vector):
    forge(path, {"vector.safetensors": safetensors.to_bytes(make_vector())})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("vector.safetensors", safetensors.to_bytes(make_vector(seed=2)))
    with pytest.raises(VectorFileError, match="does not belong"):
        formats.read(path)


def test_a_zip_bomb_is_refused_before_it_is_read(path, make_vector, monkeypatch):
    vector = safetensors.to_bytes(make_vector())
    forge(path, {"vector.safetensors": vector, "card.json": b"0" * (1 << 22)})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *args: pytest.fail("a member was read"))
    with pytest.raises(VectorFileError, match="would unpack to"):
        formats.read(path)
    forge(path, {"vector.safetensors": vector} | {f"axes/{i}.safetensors": b"" for i in range(40)})
    with pytest.raises(VectorFileError, match="42 members"):
        formats.read(path)


def test_a_size_that_lies_in_the_directory_is_refused(path, make_vector):
    forge(path, {"vector.safetensors": safetensors.to_bytes(make_vector()), "card.json": b"0" * 5000})
    data = path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(VectorFileError):
        formats.read(path)


def test_a_manifest_that_is_not_true_is_refused(path, make_vector):
    members = {"vector.safetensors": safetensors.to_bytes(make_vector())}
    for changes, message in [
        ({"members": {}}, "differ"),
        ({"members": {"vector.safetensors": {"size": 1, "sha256": "0" * 64}}}, "not what the manifest says"),
        ({"schema_version": 2}, "Upgrade"),
        ({"format": "something else"}, "manifest is not valid"),
        ({"more": 1}, "manifest is not valid"),
        ({"manifest": "{"}, "manifest is not valid"),
    ]:
        forge(path, members, **changes)
        with pytest.raises(VectorFileError, match=message):
            formats.read(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no vector"),
        ({"vector.safetensors": b"nothing"}, r"vector\.safetensors is truncated"),
        ({"card.json": b"{"}, "not valid JSON"),
        ({"card.json": b"[" * 100_000}, "not valid JSON"),
        ({"persona.json": b"[1]"}, "not a JSON object"),
        ({"axes/safety.safetensors": b"\x80\x04pickle"}, r"axes/safety\.safetensors is truncated"),
    ],
)
def test_members_that_are_not_what_they_are_called_are_refused(path, make_vector, members, message):
    vector = {} if not members or "vector.safetensors" in members else {"vector.safetensors": make_vector()}
    forge(path, {name: safetensors.to_bytes(v) for name, v in vector.items()} | members)
    with pytest.raises(VectorFileError, match=message):
        archive.read(path)


def test_a_missing_archive_is_named(path):
    with pytest.raises(NotFoundError, match=r"sage\.zip"):
        archive.read(path)
