from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_steering.errors import VectorError, VectorFileError
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.formats import persona_vectors_pt

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_row_k_is_layer_k_minus_1_without_embeddings_and_final_norm(saved):
    path = saved(torch.arange(7.0)[:, None].repeat(1, 8), "evil_response_avg_diff.pt")
    vector = persona_vectors_pt.read(path)
    assert vector.layers == (0, 1, 2, 3, 4)  # a model of 6 layers: row 6 is after the final norm
    assert [float(vector.directions[layer][0]) for layer in vector.layers] == [1, 2, 3, 4, 5]
    assert vector.metadata.kind == "trait"
    assert vector.metadata.pooling == "response_mean"
    assert vector.metadata.source == "import:persona_vectors"
    assert vector.metadata.model is None
    assert vector.name == "evil_response_avg_diff"


@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory, make_vector, make_model, data):
    model = make_model(num_layers=data.draw(st.integers(2, 5)), hidden_size=data.draw(st.integers(1, 4)))
    shape = (model.num_layers - 1, model.hidden_size)
    values = data.draw(hnp.arrays(np.float32, shape, elements=finite))
    about = make_vector("evil", kind="trait", model=model).metadata
    path = tmp_path_factory.mktemp("pv") / "evil.pt"
    persona_vectors_pt.write(path, SteeringVector(dict(enumerate(values)), about))
    raw = torch.load(path, weights_only=True)
    assert raw.dtype == torch.float32
    assert raw.shape == (model.num_layers + 1, model.hidden_size)
    assert not raw[0].any()
    assert not raw[-1].any()
    back = persona_vectors_pt.read(path, name="evil", model=model)
    np.testing.assert_array_equal(np.stack([back.directions[i] for i in back.layers]), values)
    assert back.metadata.model == model


def test_a_layer_that_would_be_a_row_of_zeros_is_not_written(tmp_path, make_vector):
    with pytest.raises(VectorError, match=r"layers \[2, 4\]"):
        persona_vectors_pt.write(tmp_path / "v.pt", make_vector(layers=[0, 1, 3]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (torch.zeros(8), "shape"),
        (torch.zeros(2, 8), "2 rows"),
        (torch.zeros(2, 3, 4), "shape"),
        ({"a": torch.zeros(3, 4)}, "dict"),
        (torch.full((4, 8), float("nan")), "layer 0: 8 of 8 values are not finite"),
    ],
)
def test_other_tensors_are_refused(saved, payload, message):
    with pytest.raises(VectorFileError, match=message):
        persona_vectors_pt.read(saved(payload))


def test_a_model_of_other_size_is_refused(saved, make_model):
    with pytest.raises(VectorFileError, match="model of 6 layers"):
        persona_vectors_pt.read(saved(torch.ones(7, 8)), model=make_model(num_layers=7))
    with pytest.raises(VectorFileError, match="9 values where 8"):
        persona_vectors_pt.read(saved(torch.ones(7, 9)), model=make_model(num_layers=6))
