from __future__ import annotations

import json

import pytest
import torch

from persona_steering.errors import VectorFileError
from persona_steering.vectors.formats import legacy

LAYERS = [24, 26, 28]


@pytest.fixture
def persona():
    per_layer = {layer: torch.full((8,), float(layer), dtype=torch.float16) for layer in LAYERS}
    return {
        "raw_vector": torch.full((8,), 26.0, dtype=torch.float16),
        "safe_vector": torch.zeros(8, dtype=torch.float16),
        "per_layer_vectors": per_layer,
        "layers": LAYERS,
        "source": "archetype",
        "name": "Sage Of Old",
        "description": "Speaks in parables.",
        "num_system_prompts": 5,
        "num_questions": 40,
        "contrastive": True,
        "extraction_method": "mean_diff",
        "vector_magnitude": 12.5,
        "mean_diff_magnitude": torch.tensor(12.5),
        "metadata": {"model": "org/model", "prompts_file": "/home/author/prompts.json"},
    }


def test_a_persona_keeps_its_subset_of_layers_and_what_steers(saved, persona):
    vector = legacy.read_pt(saved(persona))
    assert vector.layers == tuple(LAYERS)
    assert [float(vector.directions[layer][0]) for layer in LAYERS] == [24, 26, 28]
    about = vector.metadata
    assert (about.kind, about.name, about.description) == ("persona", "sage-of-old", "Speaks in parables.")
    assert about.counts == {"num_system_prompts": 5, "num_questions": 40}
    assert about.source == "import:legacy-pt"
    assert about.settings["original"]["metadata"] == {"model": "org/model"}
    assert about.settings["original"]["contrastive"] is True


@pytest.mark.parametrize("path", ["/home/x/a.json", "C:\\Users\\x", "c:/x", "~/x", "\\\\host\\x", "file:///x", " /x"])
def test_absolute_paths_of_the_authors_disk_are_dropped_wherever_they_are(saved, persona, path):
    persona["metadata"] = {"prompts": path, "nested": [{"deep": path, "kept": "prompts/a.json"}, path]}
    persona["source"] = path
    persona["description"] = path
    about = legacy.read_pt(saved(persona)).metadata
    assert path not in repr(about.model_dump())
    assert "source" not in about.settings["original"]
    assert about.settings["original"]["metadata"] == {"nested": [{"kept": "prompts/a.json"}]}


def test_a_trait_keeps_its_opposite(saved, persona):
    about = legacy.read_pt(saved(persona | {"opposite": "foolish"})).metadata
    assert (about.kind, about.opposite) == ("trait", "foolish")


def test_a_baseline_is_a_mean(saved, persona):
    payload = {key: persona[key] for key in ("per_layer_vectors", "layers", "metadata")}
    payload |= {"vector": torch.zeros(8), "num_samples": 80}
    vector = legacy.read_pt(saved(payload, "baseline.pt"))
    assert vector.metadata.kind == "baseline"
    assert vector.metadata.counts == {"num_samples": 80}
    assert vector.name == "baseline"


def test_one_vector_with_a_floor_is_an_axis_at_each_of_its_layers(saved):
    payload = {"vector": torch.arange(8.0), "floor": -1.25, "layers": [3, 5], "percentile": 1.0}
    vector = legacy.read_pt(saved(payload, "safety.pt"))
    assert vector.metadata.kind == "axis"
    assert vector.layers == (3, 5)
    assert vector.directions[5].tolist() == list(range(8))
    assert vector.metadata.thresholds == {"1": {3: -1.25, 5: -1.25}}


def test_a_stack_of_vectors_goes_to_its_layers_in_order_each_with_its_floor(saved):
    payload = {"vector": torch.eye(2), "floor": {3: 0.5, 5: torch.tensor(0.25)}, "layers": [3, 5]}
    vector = legacy.read_pt(saved(payload))
    assert vector.directions[5].tolist() == [0, 1]
    assert vector.metadata.thresholds == {"imported": {3: 0.5, 5: 0.25}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_layer_vectors": {}}, "no 'per_layer_vectors'"),
        ({"per_layer_vectors": {"x": torch.ones(8)}}, "'x' is not a layer"),
        ({"per_layer_vectors": {-1: torch.ones(8)}}, "-1 is not a layer"),
        ({"per_layer_vectors": {1: [1.0, 2.0]}}, "not a tensor"),
        ({"per_layer_vectors": {1: torch.ones(8), 2: torch.ones(7)}}, "layer 2: 7 values where 8"),
        ({"per_layer_vectors": {1: torch.full((8,), float("inf"))}}, "layer 1: 8 of 8"),
        ({"floor": "low"}, "not a finite number"),
    ],
)
def test_a_damaged_persona_is_refused(saved, persona, change, message):
    with pytest.raises(VectorFileError, match=message):
        legacy.read_pt(saved(persona | change))


@pytest.fixture
def stored_json():
    return {
        "model_id": "org/model",
        "trait_id": "Silliness",
        "generated_at": "2025-01-01",
        "vectors": {"layer_0": [0.5, 1], "layer_10": [2.0, -3.0], "layer_2": [0, 0.25]},
        "effectiveness_scores": {"layer_0": 0.7},
        "metadata": {"num_prompt_pairs": 5},
        "responses": {"positive": [], "negative": []},
    }


def written(tmp_path, payload):
    path = tmp_path / "v.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return path


def test_a_json_vector_is_read_by_its_layer_numbers(tmp_path, stored_json):
    vector = legacy.read_json(written(tmp_path, stored_json))
    assert vector.layers == (0, 2, 10)
    assert vector.directions[10].tolist() == [2, -3]
    about = vector.metadata
    assert (about.kind, about.name, about.model) == ("trait", "silliness", None)
    assert about.settings == {"original_model": "org/model", "effectiveness_scores": {"layer_0": 0.7}}
    assert about.counts == {"num_prompt_pairs": 5}


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({}, "no layers"),
        ({"layer_x": [1.0]}, "not a layer"),
        ({"layer_01": [1.0]}, "not a layer"),
        ({"layer_0": "1.0"}, "not a list"),
        ({"layer_0": []}, "not a list"),
        ({"layer_0": [1.0, None]}, "not a number"),
        ({"layer_0": [1.0, True]}, "not a number"),
        ({"layer_0": [1.0], "layer_1": [1.0, 2.0]}, "layer 1: 2 values where 1"),
        ({"layer_0": [float("nan")]}, "layer 0: 1 of 1"),
        ({"layer_0": [10**400]}, "too large"),
        ([1.0], "JSON vector file"),
    ],
)
def test_a_damaged_json_vector_is_refused(tmp_path, stored_json, vectors, message):
    with pytest.raises(VectorFileError, match=message):
        legacy.read_json(written(tmp_path, stored_json | {"vectors": vectors}))


def test_truncated_json_is_refused(tmp_path, stored_json):
    with pytest.raises(VectorFileError, match="not valid JSON"):
        legacy.read_json(written(tmp_path, json.dumps(stored_json)[:-20]))


def test_a_json_file_larger_than_any_vector_is_refused(tmp_path, stored_json, monkeypatch):
    monkeypatch.setattr(legacy, "MAX_JSON", 100)
    with pytest.raises(VectorFileError, match="more than 100 bytes"):
        legacy.read_json(written(tmp_path, stored_json))
