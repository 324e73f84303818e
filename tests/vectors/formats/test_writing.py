"""Every format: written and read again, what it keeps is equal, and what it loses is said."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_steering.errors import StorageError, UsageError, VectorError
from persona_steering.vectors import Calibration, SteeringVector, VectorKind, VectorMetadata, formats
from persona_steering.vectors.formats import writing
from persona_steering.vectors.formats.writing import FORMATS

KINDS = ("persona", "trait", "axis", "baseline")
PAIRS = [(name, kind) for name, format in FORMATS.items() for kind in KINDS if kind in format.kinds]
# What a reader must be told of a file that says nothing of itself.
TOLD = {
    "persona_vectors": {"written_by": "persona_vectors"},
    "assistant-axis": {"written_by": "assistant-axis"},
}
numbers = st.floats(-1e6, 1e6, width=32)
calibrations = st.builds(
    Calibration,
    layers=st.just((1, 2)),
    coefficients=st.just({1: 0.5, 2: 0.25}),
    relative_dose=numbers,
    persona_score=st.none(),
)


@st.composite
def vectors(draw, make_vector, make_model, kind):
    model = make_model(num_layers=draw(st.integers(3, 6)), hidden_size=draw(st.integers(1, 4)))
    shape = (model.num_layers, model.hidden_size)
    values = draw(hnp.arrays(np.float32, shape, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
    floors = st.dictionaries(st.sampled_from(["1", "5", "12.5", "75"]), st.just(dict.fromkeys(range(3), 0.5)))
    # a capping configuration holds nothing but floors, so an axis always has some
    thresholds = draw(floors.filter(bool)) if kind == "axis" else {}
    about = make_vector(
        draw(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)),
        kind=kind,
        model=model,
        description=draw(st.text("abc é", max_size=8)).strip(),
        opposite=draw(st.sampled_from(["", "insecure"])) if kind == "trait" else "",
        counts=draw(st.sampled_from([{}, {"kept": 58}])),
        reference_norms=draw(st.sampled_from([{}, {1: 20.0}])),
        thresholds=thresholds,
        calibration=draw(st.none() | calibrations) if kind in ("persona", "trait") else None,
        safe_calibration=draw(st.none() | calibrations) if kind in ("persona", "trait") else None,
    ).metadata
    return SteeringVector(dict(enumerate(values)), about)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_a_format_keeps_comes_back_and_the_rest_is_said(
    tmp_path_factory, make_vector, make_model, name, kind, data
):
    vector, format = data.draw(vectors(make_vector, make_model, kind)), FORMATS[name]
    path = tmp_path_factory.mktemp("written") / f"file{format.suffix}"
    writing.write(path, vector, name)
    told = TOLD.get(name, {}) if kind in ("persona", "trait") or name == "persona_vectors" else {}
    back = formats.read(path, **told)

    held = [layer for layer in vector.layers if format.holds(vector, layer)]
    assert list(back.layers) == held
    for layer in held:
        np.testing.assert_array_equal(back.directions[layer], vector.directions[layer])
    kept = vector.restrict(held).metadata  # less what a layer that is not held takes with it
    for field in format.keeps(vector.metadata):
        assert getattr(back.metadata, field) == getattr(kept, field), field
    lost = " ".join(writing.losses(vector, format))
    for field, words in writing.NOT_HELD.items():
        before, after = getattr(vector.metadata, field), getattr(kept, field)
        assert (words in lost) == bool(before and (not after or field not in format.keeps(vector.metadata)))
    assert ("layer 0" in lost) == (0 not in held)
    assert ("description" in lost) == (kept.description not in ("", back.metadata.description))


@pytest.mark.parametrize("name", FORMATS)
def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, make_vector, monkeypatch, name):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def no_space(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(StorageError, match="disk is full"):
        writing.write(path, make_vector("axis", kind="axis", thresholds={"1": {1: 0.5}}), name)
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_mean_is_no_direction_and_only_an_axis_has_caps(tmp_path, make_vector):
    mean = make_vector("mean", kind="baseline")
    for name in ("gguf", "persona_vectors", "legacy-json", "assistant-axis-capping"):
        with pytest.raises(VectorError, match=f"'mean' is a baseline.*'{name}'.*assistant-axis"):
            writing.write(tmp_path / "x", mean, name)
    with pytest.raises(VectorError, match="a persona"):
        writing.write(tmp_path / "x", make_vector(), "assistant-axis-capping")
    assert list(tmp_path.iterdir()) == []


def test_a_format_is_found_by_its_name_or_by_a_clear_ending(tmp_path):
    endings = {"safetensors": "safetensors", "GGUF": "gguf", "json": "legacy-json", "zip": "archive"}
    for ending, name in endings.items():
        assert writing.find_format(tmp_path / f"x.{ending}").name == name
    assert writing.find_format(tmp_path / "x.pt", "persona_vectors").name == "persona_vectors"
    with pytest.raises(UsageError, match="Did you mean 'persona_vectors'"):
        writing.find_format(tmp_path / "x.pt", "persona-vectors")


def test_an_unclear_ending_names_the_formats(tmp_path):
    with pytest.raises(UsageError, match=r"'\.pt' is the ending of several.*persona_vectors, assistant-axis"):
        writing.find_format(tmp_path / "x.pt")
    for ending in ("", ".bin", ".svec"):
        with pytest.raises(UsageError, match=r"no ending.*gguf \(\.gguf\)"):
            writing.find_format(tmp_path / f"x{ending}")


def test_the_earlier_systems_files_hold_what_their_readers_look_for(tmp_path, make_vector):
    import json

    import torch

    vector = make_vector("calm", kind="trait", layers=[2, 4], opposite="tense", system_prompts=("Be calm.",))
    writing.write(tmp_path / "calm.pt", vector, "legacy-pt")
    payload = torch.load(tmp_path / "calm.pt", weights_only=True)
    assert payload["layers"] == [2, 4] and list(payload["per_layer_vectors"]) == [2, 4]
    mean = (vector.directions[2] + vector.directions[4]) / 2
    np.testing.assert_allclose(payload["raw_vector"].numpy(), mean, rtol=1e-6)
    assert (payload["name"], payload["opposite"], payload["num_system_prompts"]) == ("calm", "tense", 1)
    assert payload["metadata"] == {"model": "hf:tiny/llama"}

    writing.write(tmp_path / "calm.json", vector, "legacy-json")
    payload = json.loads((tmp_path / "calm.json").read_text())
    assert payload["model_id"] == "hf:tiny/llama" and payload["trait_id"] == "calm"
    assert set(payload["vectors"]) == {"layer_2", "layer_4"} and payload["effectiveness_scores"] == {}


def test_the_table_of_the_documentation_is_that_of_the_formats():
    page = (Path(__file__).parents[3] / "docs" / "vectors.md").read_text()
    lines = page[page.index("| format | ending |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:3] for row in rows] == [[f.name, f.suffix, ", ".join(f.kinds)] for f in FORMATS.values()]
    for name, *_, loses in rows:
        keeps_all = all(FORMATS[name].keeps(metadata_of(kind)) == writing.ALL for kind in FORMATS[name].kinds)
        assert (loses == "nothing" or name == "gguf") == keeps_all


def metadata_of(kind: VectorKind) -> VectorMetadata:
    return VectorMetadata(name="x", kind=kind, model=None, sign="", source="")


@pytest.mark.parametrize("name", ["safetensors", "archive", "gguf", "legacy-json"])
def test_a_file_with_changed_bytes_is_refused_or_read_as_it_was_and_nothing_else_happens(tmp_path, make_vector, name):
    vector, path = make_vector(), tmp_path / "file"
    writing.write(path, vector, name)
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        try:
            back = formats.read(path)
        except VectorError:
            continue
        if back.metadata.source == "test":  # else it reads as a file of another tool, which cannot be checked
            assert all((back.directions[layer] == vector.directions[layer]).all() for layer in back.layers)
