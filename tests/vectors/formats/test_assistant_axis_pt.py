from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_steering.errors import VectorError, VectorFileError
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.formats import assistant_axis_pt, persona_vectors_pt

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"axis": t, "metadata": {"file": "/home/x", "n": 3}}])
def test_index_i_is_layer_i(saved, wrap):
    path = saved(wrap(torch.arange(6.0)[:, None].repeat(1, 8).to(torch.bfloat16)), "Assistant Axis.pt")
    vector = assistant_axis_pt.read(path)
    assert [float(vector.directions[layer][0]) for layer in range(6)] == [0, 1, 2, 3, 4, 5]
    assert vector.metadata.kind == "axis"
    assert vector.metadata.sign == "+ is more Assistant"
    assert vector.name == "assistant-axis"
    assert vector.metadata.settings in ({}, {"original_metadata": {"n": 3}})


def test_the_layer_of_index_i_is_that_of_persona_vectors_row_i_plus_1(saved):
    hidden_states = torch.randn(7, 8)  # embeddings, then a model of 6 layers
    published = persona_vectors_pt.read(saved(hidden_states))
    axis = assistant_axis_pt.read(saved(hidden_states[1:]))
    for layer in published.layers:
        np.testing.assert_array_equal(published.directions[layer], axis.directions[layer])


def test_a_roles_vector_is_a_mean_and_not_a_direction(saved):
    payload = {"vector": torch.ones(4, 8), "type": "pos_3", "role": "Pirate Captain"}
    vector = assistant_axis_pt.read(saved(payload))
    assert vector.metadata.kind == "baseline"
    assert vector.name == "pirate-captain"
    assert vector.metadata.settings == {"role": "Pirate Captain", "type": "pos_3"}


def test_a_caller_can_say_that_a_bare_tensor_is_a_persona(saved):
    vector = assistant_axis_pt.read(saved(torch.ones(4, 8)), kind="persona", name="pirate")
    assert vector.metadata.kind == "persona"
    assert vector.metadata.sign == "+ is more of the persona"


@pytest.mark.parametrize("kind", ["axis", "persona", "baseline"])
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path_factory, make_vector, make_model, kind, data):
    model = make_model(num_layers=data.draw(st.integers(1, 5)), hidden_size=data.draw(st.integers(1, 4)))
    values = data.draw(hnp.arrays(np.float32, (model.num_layers, model.hidden_size), elements=finite))
    vector = SteeringVector(dict(enumerate(values)), make_vector("mine", kind=kind, model=model).metadata)
    path = tmp_path_factory.mktemp("aa") / "axis.pt"
    assistant_axis_pt.write(path, vector)
    raw = torch.load(path, weights_only=True)
    where = {"axis": lambda: raw["axis"], "persona": lambda: raw, "baseline": lambda: raw["vector"]}
    np.testing.assert_array_equal(where[kind]().numpy(), values)
    back = assistant_axis_pt.read(path, model=model, kind="persona" if kind == "persona" else None)
    assert (back.digest, back.metadata.kind) == (vector.digest, kind)
    assert back.name == ("axis" if kind == "persona" else "mine")  # a bare tensor is called what its file is called


def test_an_incomplete_vector_is_not_written(tmp_path, make_vector):
    with pytest.raises(VectorError, match=r"layers \[5\]"):
        assistant_axis_pt.write(tmp_path / "v.pt", make_vector(layers=range(5)))


@pytest.fixture
def capping_config():
    away = torch.tensor([0.0, -2.0, 0.0])  # minus the axis [0, 2, 0]
    return {
        "vectors": {"layer_3/contrast": {"vector": away, "layer": 3}},
        "experiments": [
            {
                "id": "layers_3:4-p0.25",
                "interventions": [
                    {"vector": "layer_3/contrast", "cap": -1.5},
                    {"vector": "layer_3/contrast", "coeff": 2.0},
                ],
            }
        ],
    }


def test_a_ceiling_on_the_negated_axis_is_a_floor_on_the_axis(saved, capping_config):
    (cap,) = assistant_axis_pt.read_capping_config(saved(capping_config))
    assert (cap.experiment, cap.name, cap.layer) == ("layers_3:4-p0.25", "layer_3/contrast", 3)
    assert cap.axis.tolist() == [0, 2, 0]
    assert cap.floor == 1.5

    # the oracle: the published ceiling on what the file stores, for states on both sides of it
    stored = capping_config["vectors"]["layer_3/contrast"]["vector"].numpy()
    away, toward = stored / np.linalg.norm(stored), cap.axis / np.linalg.norm(cap.axis)
    for h in (np.array([1.0, 0.2, 3.0]), np.array([1.0, 4.0, 3.0])):
        ceiling = h - away * max(h @ away - -1.5, 0)
        floor = h + toward * max(cap.floor - h @ toward, 0)
        np.testing.assert_allclose(floor, ceiling)


def test_a_capping_configuration_is_one_axis_with_floors_at_its_percentiles(saved, capping_config):
    capping_config["vectors"]["layer_4/contrast"] = {"vector": torch.tensor([1.0, 0.0, 0.0]), "layer": 4}
    capping_config["experiments"] += [
        {"id": "layers_3:5-p0.01", "interventions": [{"vector": "layer_4/contrast", "cap": 0.5}]},
        {"id": "by hand", "interventions": [{"vector": "layer_3/contrast", "cap": 2.0}]},
    ]
    axis = assistant_axis_pt.read(saved(capping_config, "caps.pt"))
    assert (axis.metadata.kind, axis.name, axis.layers) == ("axis", "caps", (3, 4))
    assert axis.directions[3].tolist() == [0, 2, 0] and axis.directions[4].tolist() == [-1, 0, 0]
    assert axis.metadata.thresholds == {"25": {3: 1.5}, "1": {4: -0.5}, "imported": {3: -2.0}}


def test_experiments_that_contradict_each_other_are_not_one_axis(saved, capping_config):
    again = {"id": "again-p0.25", "interventions": [{"vector": "layer_3/contrast", "cap": -1.25}]}
    capping_config["experiments"].append(again)
    with pytest.raises(VectorFileError, match=r"layer 3 .* read_capping_config"):
        assistant_axis_pt.read(saved(capping_config))
    capping_config["experiments"].clear()
    with pytest.raises(VectorFileError, match="without caps"):
        assistant_axis_pt.read(saved(capping_config))
    with pytest.raises(VectorFileError, match="not a capping configuration"):
        assistant_axis_pt.read_capping_config(saved(torch.ones(3, 4)))


def test_floors_are_written_as_ceilings_on_the_negated_axis(tmp_path, make_vector):
    floors = {"1": {2: -0.5, 3: 1.25}, "25": {2: 0.75, 3: 2.5}}
    axis = make_vector("safety", kind="axis", layers=[2, 3], thresholds=floors)
    assistant_axis_pt.write_capping_config(tmp_path / "caps.pt", axis)
    raw = torch.load(tmp_path / "caps.pt", weights_only=True)
    assert [one["id"] for one in raw["experiments"]] == ["layers_2:4-p0.01", "layers_2:4-p0.25"]
    entry = raw["vectors"][raw["experiments"][1]["interventions"][0]["vector"]]
    assert entry["layer"] == 2 and raw["experiments"][1]["interventions"][0]["cap"] == -0.75
    np.testing.assert_array_equal(entry["vector"].numpy(), -axis.directions[2])
    back = assistant_axis_pt.read(tmp_path / "caps.pt")
    assert (back.digest, back.name, back.metadata.thresholds) == (axis.digest, "safety", floors)
    with pytest.raises(VectorError, match="no thresholds"):
        assistant_axis_pt.write_capping_config(tmp_path / "none.pt", make_vector("x", kind="axis"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["vectors"].clear(), "not among its vectors"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(layer="3"), "layer '3'"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(layer=-3), "negative"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(vector=torch.ones(2, 2)), "not a tensor"),
        (lambda c: c["vectors"]["layer_3/contrast"].update(vector=torch.tensor([float("inf")])), "finite"),
        (lambda c: c["experiments"].append("x"), "an experiment is a str"),
        (lambda c: c["experiments"][0]["interventions"][0].update(cap=float("nan")), "not a finite number"),
        (lambda c: c["experiments"][0]["interventions"][0].update(cap="low"), "not a finite number"),
    ],
)
def test_a_capping_configuration_that_is_not_valid_is_refused(saved, capping_config, change, message):
    change(capping_config)
    with pytest.raises(VectorFileError, match=message):
        assistant_axis_pt.read_capping_config(saved(capping_config))
