"""`export` and `import`, as real commands on files on a disk."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path

import gguf as official
import numpy as np
import pytest
import torch
from tests.backends.tiny import LAYERS
from tests.cli.conftest import Cli, make_calibration, make_vector

from persona_steering.cli import exchange
from persona_steering.vectors import ModelIdentity, VectorKind, VectorStore
from persona_steering.vectors.card import MEASURED_WITH
from persona_steering.vectors.formats import writing

PROMPTS = ("You are a sage who speaks in parables.", "You are an old teacher with much patience.")


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store knows the model of these tests, so it is never loaded."""
    monkeypatch.setattr("persona_steering.backends.wrapper.load", lambda *a, **k: pytest.fail("a model was loaded"))


@pytest.fixture
def sage(stored: VectorStore, tiny_model: ModelIdentity):
    """A persona as `create` leaves it: both calibrations, and the prompts it was made from."""
    axis = stored.load("axis", "safety", tiny_model)
    safe = make_calibration().model_copy(update={"safe": True, "settings": {MEASURED_WITH: axis.digest}})
    about = {"calibration": make_calibration(), "safe_calibration": safe, "system_prompts": PROMPTS}
    vector = make_vector(tiny_model, "sage", **about, counts={"kept": 58, "dropped": 2})
    stored.save(vector)
    return vector


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From here on the command line has another home, with nothing in it."""
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("PERSONA_STEER_HOME", str(home))
    return home / "data"


def test_the_help_names_every_format_and_writer() -> None:
    assert tuple(writing.FORMATS) == exchange.FORMATS
    from typing import get_args

    from persona_steering.vectors.formats import Writer

    assert get_args(Writer) == exchange.WRITERS
    assert get_args(VectorKind) == exchange.KINDS


def test_a_native_file_goes_out_and_comes_back_whole(
    sage, on_tiny: Cli, cli: Cli, tiny_model: ModelIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = on_tiny("export", "sage", "sage.safetensors")
    assert (result.code, result.out) == (0, "") and "Wrote 'sage' to sage.safetensors (safetensors)." in result.err
    assert "warning" not in result.err
    data = elsewhere(tmp_path, monkeypatch)
    result = cli("import", "sage.safetensors")
    assert result.code == 0 and "0.83" in result.out
    assert "stale" in result.out and "safety axis that it was measured with is not there" in result.out
    back = VectorStore(data / "vectors").load("persona", "sage", tiny_model)
    assert (back.digest, back.metadata) == (sage.digest, sage.metadata)


def test_an_archive_brings_the_axis_and_the_prompts(
    sage,
    stored: VectorStore,
    on_tiny: Cli,
    cli: Cli,
    tiny_model: ModelIdentity,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert on_tiny("export", "sage", "sage.zip", "--json").data == {
        "name": "sage",
        "file": "sage.zip",
        "format": "archive",
        "layers": list(range(LAYERS)),
        "warnings": [],
    }
    with zipfile.ZipFile("sage.zip") as file:
        card = json.loads(file.read("card.json"))
    assert (card["name"], card["status"], card["digest"]) == ("sage", "ready", sage.digest)
    assert str(tmp_path) not in json.dumps({key: card[key] for key in card if key != "model_name"})

    data = elsewhere(tmp_path, monkeypatch)
    found = cli("import", "sage.zip", "--json").data
    assert found["axes"] == ["safety"] and found["warnings"] == []
    prompts = Path(found["prompts"])
    assert prompts == data / "datasets" / "personas" / "sage.toml" and PROMPTS[0] in prompts.read_text()
    rows = {row["name"]: row["status"] for row in on_tiny("list", "--json").data}
    assert rows == {"sage": "ready", "safety": "ready"}

    prompts.write_text("edited")
    again = cli("import", "sage.zip", "--force", "--json").data
    assert again["axes"] == [] and again["prompts"] is None and prompts.read_text() == "edited"


def test_an_archive_leaves_another_safety_axis_alone_and_says_so(
    sage, on_tiny: Cli, cli: Cli, tiny_model: ModelIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_tiny("export", "sage", "sage.zip")
    store = VectorStore(elsewhere(tmp_path, monkeypatch) / "vectors")
    own = make_vector(tiny_model, "safety", kind="axis", thresholds={"1": {0: 0.5}})
    own = own * 2.0
    store.save(own)
    result = cli("import", "sage.zip", "--json")
    assert "another safety axis" in result.data["warnings"][0]
    assert store.load("axis", "safety", tiny_model).digest == own.digest
    assert result.data["status"] == "stale"


def test_a_control_vector_has_the_measured_dose_in_it_when_a_strength_is_asked_for(sage, on_tiny: Cli) -> None:
    result = on_tiny("export", "sage", "sage.gguf", "--at-strength", "0.5")
    assert result.code == 0 and "no floor on an axis" in result.err
    stored = {tensor.name: tensor.data for tensor in official.GGUFReader("sage.gguf").tensors}
    assert set(stored) == {"direction.1", "direction.2"}
    np.testing.assert_allclose(stored["direction.1"], 0.5 * 0.4 * sage.directions[1], rtol=1e-6)
    np.testing.assert_allclose(stored["direction.2"], 0.5 * 0.3 * sage.directions[2], rtol=1e-6)
    back = on_tiny("import", "sage.gguf", "--name", "baked")
    assert "not calibrated" in back.out and "strength in its values" in back.err


def test_a_raw_control_vector_says_that_its_scale_is_no_strength_and_what_is_lost(sage, on_tiny: Cli) -> None:
    result = on_tiny("export", "sage", "sage.gguf")
    assert "--at-strength 1.0" in result.err and "the gguf file does not hold the direction at layer 0" in result.err


def test_the_safe_form_has_nothing_along_the_safety_axis(
    sage, stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    assert on_tiny("export", "sage", "safe.safetensors", "--safe").code == 0
    assert on_tiny("import", "safe.safetensors", "--name", "safe-sage").code == 0
    safe = stored.load("persona", "safe-sage", tiny_model)
    axis = stored.load("axis", "safety", tiny_model)
    assert max(abs(value) for value in safe.cosine(axis).values()) < 1e-6
    assert safe.metadata.calibration == sage.metadata.safe_calibration
    assert on_tiny("export", "safety", "x.safetensors", "--safe").code == 2


@pytest.mark.parametrize(
    ("name", "file", "options", "told", "lost"),
    [
        ("sage", "a.pt", ("--format", "persona_vectors"), ("--kind", "trait"), "layer 3"),
        ("sage", "a.pt", ("--format", "assistant-axis"), ("--kind", "persona"), "its kind"),
        ("safety", "a.pt", ("--format", "assistant-axis"), (), "thresholds"),
        ("safety", "a.pt", ("--format", "assistant-axis-capping"), (), "identity of its model"),
        ("sage", "a.pt", ("--format", "legacy-pt"), (), "calibration (what strength 1.0 means)"),
        ("calm", "a.json", (), (), "norms"),
    ],
)
def test_a_file_of_another_tool_says_what_it_loses_and_comes_back_uncalibrated(
    sage,
    stored: VectorStore,
    on_tiny: Cli,
    tiny_model: ModelIdentity,
    name: str,
    file: str,
    options: tuple[str, ...],
    told: tuple[str, ...],
    lost: str,
) -> None:
    result = on_tiny("export", name, file, *options)
    assert result.code == 0 and "file does not hold" in result.err and lost in result.err
    found = on_tiny("import", file, "--name", "copy", *told, "--json")
    assert found.code == 0, found.err
    thresholds = found.data["metadata"]["thresholds"]
    assert found.data["status"] == ("ready" if thresholds else "not calibrated")
    original = stored.load("axis" if name == "safety" else "trait" if name == "calm" else "persona", name, tiny_model)
    copy = stored.load(found.data["kind"], "copy", tiny_model)
    for layer in copy.layers:
        np.testing.assert_array_equal(copy.directions[layer], original.directions[layer])


def test_a_stale_vector_says_so_and_its_safe_form_has_no_strength(
    sage, stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    stored.save(stored.load("axis", "safety", tiny_model) * 2.0)
    result = on_tiny("export", "sage", "sage.zip")
    assert result.code == 0 and "'sage' is stale: it was measured with another safety axis" in result.err
    assert "axes/safety.safetensors" not in zipfile.ZipFile("sage.zip").namelist()
    result = on_tiny("export", "sage", "raw.gguf", "--at-strength", "1")
    assert result.code == 0 and "stale" not in result.err  # what was measured of the raw form holds
    result = on_tiny("export", "sage", "safe.gguf", "--at-strength", "1", "--safe")
    assert result.code == 8 and "not calibrated" in result.err


def test_an_unclear_ending_or_format_is_refused_with_the_formats(sage, on_tiny: Cli) -> None:
    for file, options, words in [
        ("x.pt", (), "persona_vectors, assistant-axis"),
        ("x.bin", (), "gguf (.gguf)"),
        ("x", (), "safetensors (.safetensors)"),
        ("x.gguf", ("--format", "ggfu"), "Did you mean 'gguf'"),
        ("x.pt", ("--format", "persona_vectors", "--at-strength", "1"), "--format gguf"),
    ]:
        result = on_tiny("export", "sage", file, *options)
        assert result.code == 2 and words in result.err
        assert not Path(file).exists()


def test_a_file_or_a_name_in_use_is_replaced_only_when_forced(
    sage, stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    Path("sage.gguf").write_text("mine")
    result = on_tiny("export", "sage", "sage.gguf")
    assert result.code == 2 and "--force" in result.err and Path("sage.gguf").read_text() == "mine"
    assert on_tiny("export", "sage", "sage.gguf", "--force").code == 0
    Path("folder.gguf").mkdir()
    assert on_tiny("export", "sage", "folder.gguf", "--force").code == 2

    result = on_tiny("import", "sage.gguf")
    assert result.code == 2 and "a persona 'sage'" in result.err and "--name" in result.err
    assert stored.load("persona", "sage", tiny_model).digest == sage.digest
    result = on_tiny("import", "sage.gguf", "--name", "calm", "--force")  # calm is a trait
    assert result.code == 2 and "a trait 'calm'" in result.err
    assert on_tiny("import", "sage.gguf", "--force", "-q").out == "sage\n"
    assert stored.load("persona", "sage", tiny_model).layers == (1, 2, 3)


def test_a_vector_without_a_strength_and_an_unknown_name_are_refused(sage, on_tiny: Cli) -> None:
    result = on_tiny("export", "raw", "raw.gguf", "--at-strength", "1")
    assert result.code == 8 and "not calibrated" in result.err
    result = on_tiny("export", "saeg", "x.gguf")
    assert result.code == 4 and "'sage'" in result.err


def test_a_file_that_names_no_model_needs_one_and_must_fit_it(
    sage, cli: Cli, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    torch.save({"per_layer_vectors": {1: torch.ones(tiny_model.hidden_size)}, "name": "old"}, "old.pt")
    result = cli("import", "old.pt")
    assert result.code == 8 and "--model" in result.err and "layers" in result.err
    assert on_tiny("import", "old.pt").code == 0
    torch.save({"per_layer_vectors": {1: torch.ones(7)}, "name": "old7"}, "wide.pt")
    assert "7 values where" in on_tiny("import", "wide.pt").err
    torch.save({"per_layer_vectors": {99: torch.ones(tiny_model.hidden_size)}, "name": "deep"}, "deep.pt")
    result = on_tiny("import", "deep.pt")
    assert result.code == 8 and "layer 99" in result.err


def test_a_file_of_another_model_is_refused_where_a_model_is_named(
    sage, store: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    other = tiny_model.model_copy(update={"id": "hf:other/model", "fingerprint": "f" * 16})
    store.save(make_vector(other, "alien"))
    path = store.path("persona", "alien", other)
    result = on_tiny("import", str(path))
    assert result.code == 8 and "hf:other/model" in result.err


def test_who_wrote_a_control_vector_decides_what_its_numbers_mean(
    sage, stored: VectorStore, on_tiny: Cli, tiny_model: ModelIdentity
) -> None:
    writer = official.GGUFWriter("happy.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    for n in (1, 2, 3):
        writer.add_tensor(f"direction.{n}", np.full(tiny_model.hidden_size, n, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    layers = {}
    for name, options in {
        "plain": (),
        "shifted": ("--written-by", "cvector-generator"),
        "fewer": ("--written-by", "repeng"),
    }.items():
        result = on_tiny("import", "happy.gguf", "--name", name, *options)
        assert result.code == 0 and ("--written-by" in result.err) == (name == "plain")
        vector = stored.load("trait", name, tiny_model)
        layers[name] = {layer: float(v[0]) for layer, v in vector.directions.items()}
    assert layers == {"plain": {1: 1, 2: 2, 3: 3}, "shifted": {0: 1, 1: 2, 2: 3}, "fewer": {1: 1, 2: 2}}


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch it-ran",)


def test_files_that_are_no_vectors_are_refused_with_the_reason(sage, on_tiny: Cli, tiny_model: ModelIdentity) -> None:
    Path("pickle.pt").write_bytes(pickle.dumps(RunsCode()))
    torch.save(RunsCode(), "code.pt")
    Path("text.txt").write_text("hello")
    Path("empty").write_bytes(b"")
    on_tiny("export", "sage", "whole.zip")
    Path("cut.zip").write_bytes(Path("whole.zip").read_bytes()[:-100])
    torch.save({"per_layer_vectors": {1: torch.full((tiny_model.hidden_size,), float("nan"))}}, "nan.pt")
    with zipfile.ZipFile("path.zip", "w") as file:
        file.writestr("manifest.json", "{}")
        file.writestr("../../evil.safetensors", "x")
    for file, words in {
        "pickle.pt": "refused",
        "code.pt": "would execute code",
        "text.txt": "known format",
        "empty": "is empty",
        "cut.zip": "truncated",
        "nan.pt": "not finite",
        "path.zip": "does not belong in it: '../../evil.safetensors'",
    }.items():
        result = on_tiny("import", file, "--json")
        assert result.code == 8 and words in result.data["error"]["message"], file
    assert on_tiny("import", "gone.pt").code == 4
    assert not Path("it-ran").exists() and not Path("../../evil.safetensors").exists()


def test_an_archive_whose_prompts_are_not_valid_stores_nothing(
    sage, on_tiny: Cli, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_steering.vectors.formats import archive

    archive.write(Path("bad.zip"), archive.Archive(sage, persona={"name": "sage", "system_prompts": ["short"]}))
    data = elsewhere(tmp_path, monkeypatch)
    result = cli("import", "bad.zip")
    assert result.code == 8 and "its persona is not valid at system_prompts.0" in result.err
    assert not data.exists() or not list(data.rglob("*.safetensors"))


def test_a_full_disk_leaves_no_half_file(sage, on_tiny: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    for file in ("a.gguf", "a.zip", "a.safetensors", "a.json"):
        result = on_tiny("export", "sage", file)
        assert result.code == 9 and "disk is full" in result.err
    assert not [path for path in Path().iterdir() if path.is_file()]
