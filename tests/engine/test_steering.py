"""SteeringEngine: blends and settings become recipes, and what cannot be honoured is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import make_vector, tiny_backend

from persona_steering.backends.base import Sampling, conversation
from persona_steering.backends.wrapper import ModelWrapper
from persona_steering.calibration.caps import Cap
from persona_steering.config import get_config
from persona_steering.engine.steering import SteeringEngine
from persona_steering.errors import NotFoundError, PromptError, RecipeError
from persona_steering.interventions import Add, Ceiling, Floor
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import (
    Calibration,
    Interval,
    ModelIdentity,
    SteeringVector,
    orthogonalize_persona,
    replace_metadata,
)

SAMPLING = Sampling(max_new_tokens=8, seed=3)


def calibrated(identity: ModelIdentity, name: str, *, seed: int, weak: str = "") -> SteeringVector:
    vector = make_vector(identity, name=name, seed=seed)
    calibration = Calibration(
        layers=(1, 2),
        coefficients={1: 3.0, 2: 5.0},
        relative_dose=0.3,
        weak=bool(weak),
        weak_reason=weak,
        persona_score=Interval(mean=0.8, low=0.7, high=0.9),
    )
    changes = {"calibration": calibration, "reference_norms": dict.fromkeys(range(identity.num_layers), 10.0)}
    return replace_metadata(vector, vector.metadata.model_copy(update=changes))


def safety(identity: ModelIdentity) -> SteeringVector:
    vector = make_vector(identity, name="safety", seed=7)
    thresholds = {key: dict.fromkeys(range(identity.num_layers), float(key)) for key in ("1", "5", "25")}
    changes = {"kind": "axis", "thresholds": thresholds}
    return replace_metadata(vector, vector.metadata.model_copy(update=changes))


def make_engine(folder: Path, root: Path, **overrides: object) -> SteeringEngine:
    config = get_config(overrides={"paths.vectors": folder, **overrides})
    model = ModelWrapper(config, backend=tiny_backend("llama", root))
    manager = PersonaManager(config)
    engine = SteeringEngine(model, manager, config)
    manager.bind(model.identity)
    for vector in (
        calibrated(model.identity, "sage", seed=1),
        calibrated(model.identity, "formal", seed=2),
        calibrated(model.identity, "dull", seed=3, weak="persona score 0.10"),
        make_vector(model.identity, name="bare", seed=4),
        safety(model.identity),
    ):
        manager.save(vector)
    return engine


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def engine(tmp_path: Path, root: Path) -> SteeringEngine:
    return make_engine(tmp_path, root)


def test_strength_multiplies_the_calibrated_coefficients(engine: SteeringEngine) -> None:
    (add,) = engine.steering({"sage": 0.5}, safety=False).recipe.interventions
    assert isinstance(add, Add)
    assert dict(add.values) == {1: 1.5, 2: 2.5}
    assert add.vector.digest == engine.manager.load("sage").digest


def test_a_blend_has_an_addition_a_name_and_zero_means_absent(engine: SteeringEngine) -> None:
    steering = engine.steering({"sage": 0.5, "formal": -0.3, "dull": 0.0}, safety=False)
    assert [(a.vector.name, a.values[1]) for a in steering.recipe.interventions] == [
        ("sage", 1.5),
        ("formal", pytest.approx(-0.9)),
    ]
    assert steering.warnings == ()


def test_safety_orthogonalises_and_puts_a_floor_last(engine: SteeringEngine) -> None:
    add, floor = engine.steering({"sage": 1.0}).recipe.interventions
    axis = engine.manager.safety_axis()
    assert isinstance(add, Add)
    assert isinstance(floor, Floor)
    expected = orthogonalize_persona(engine.manager.load("sage"), axis)
    assert add.vector.digest == expected.digest
    assert set(floor.values.values()) == {1.0}  # the 1st percentile is the default
    engine.set_safety_floor(15)
    assert set(engine.safety_floor().values.values()) == {15.0}


def test_the_base_model_is_left_as_it_is_also_with_safety(engine: SteeringEngine) -> None:
    assert not engine.steering({}).recipe
    assert engine.generate("hello", sampling=SAMPLING) == engine.model.generate("hello", sampling=SAMPLING)


def test_steering_scale_and_layers_are_honoured(tmp_path: Path, root: Path) -> None:
    engine = make_engine(tmp_path, root, **{"steering.steering_scale": 0.5, "steering.steering_layers": [0, 3]})
    (add,) = engine.steering({"sage": 1.0}, safety=False).recipe.interventions
    # unit directions, reference norm 10: half of dose 0.3, shared by two layers
    assert dict(add.values) == pytest.approx({0: 0.75, 3: 0.75})


def test_capping_layers_are_honoured(tmp_path: Path, root: Path) -> None:
    engine = make_engine(tmp_path, root, **{"steering.capping_layers": [0, 1]})
    assert engine.safety_floor().layers == (0, 1)


def test_cautions_are_said(engine: SteeringEngine) -> None:
    def warnings(blend: dict[str, float]) -> str:
        return " ".join(engine.steering(blend, safety=False).warnings)

    assert "beyond the strongest dose" in warnings({"sage": 1.5})
    assert "add up to more than 1" in warnings({"sage": 0.8, "formal": 0.7})
    assert "weak on this model: persona score 0.10" in warnings({"dull": 0.5})


def test_a_vector_without_norms_or_calibration_cannot_have_a_strength(engine: SteeringEngine) -> None:
    with pytest.raises(RecipeError, match="no reference norms"):
        engine.steering({"bare": 1.0}, safety=False)


def test_what_cannot_be_honoured_is_refused(engine: SteeringEngine) -> None:
    with pytest.raises(NotFoundError, match="'sage'"):
        engine.generate("hello", persona="sgae")
    with pytest.raises(RecipeError, match="out of range"):
        engine.generate("hello", persona="sage", persona_strength=3)
    with pytest.raises(RecipeError, match="not a percentile"):
        engine.set_safety_floor(101)
    with pytest.raises(RecipeError, match="not a strength"):
        engine.set_default_strength("much")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="empty"):
        engine.generate("  ", persona="sage")


def test_without_a_safety_axis_safety_is_refused_and_not_dropped(engine: SteeringEngine) -> None:
    engine.manager.store.delete("axis", "safety", engine.model.identity)
    with pytest.raises(NotFoundError, match="--no-safety"):
        engine.steering({"sage": 1.0})
    assert engine.steering({"sage": 1.0}, safety=False).recipe


def test_generate_stream_and_complete_agree(engine: SteeringEngine) -> None:
    steering = engine.steering({"sage": 1.0})
    messages = conversation("hello")
    whole = engine.complete(messages, steering, sampling=SAMPLING)
    pieces = list(engine.stream(messages, steering, sampling=SAMPLING))
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.text
    assert engine.generate("hello", persona="sage", persona_strength=1.0, sampling=SAMPLING) == whole.text
    assert whole.text != engine.generate("hello", sampling=SAMPLING)
    assert whole.recipe_hash == steering.recipe.hash


def test_the_default_strength_is_used_when_none_is_given(engine: SteeringEngine) -> None:
    engine.set_default_strength(0.4)
    given = engine.generate("hello", persona="sage", persona_strength=0.4, sampling=SAMPLING)
    assert engine.generate("hello", persona="sage", sampling=SAMPLING) == given


def test_the_wrapper_steers_caps_and_captures(engine: SteeringEngine) -> None:
    model = engine.model
    vector = engine.manager.load("sage")
    text, activations = model.generate_with_activations("hello", sampling=SAMPLING)
    assert text == model.generate("hello", sampling=SAMPLING)
    assert {layer: tuple(tensor.shape) for layer, tensor in activations.items()} == {k: (32,) for k in range(4)}
    steered = model.generate_with_steering(
        "hello", steering_vector=vector, strength=8.0, layers=[1, 2], sampling=SAMPLING
    )
    array = np.stack([vector.directions[k] for k in range(4)])
    same = model.generate_with_steering("hello", steering_vector=array, strength=8.0, layers=[1, 2], sampling=SAMPLING)
    assert steered == same != text
    unmoved = model.generate_with_capping("hello", axis=vector, floor=-1e6, layers=[1], sampling=SAMPLING)
    moved = model.generate_with_capping("hello", axis=vector, floor=20.0, layers=[1], sampling=SAMPLING)
    assert unmoved == text != moved


def test_caps_are_bounds_beside_the_floor_of_safety_and_hold_without_any_persona(engine: SteeringEngine) -> None:
    caps = [Cap("safety", "ceiling", "p15", (0, 1)), Cap("sage", "floor", -2.5)]
    *_, ceiling, floor = engine.steering({"formal": 0.5}, caps=caps).recipe.interventions
    assert isinstance(ceiling, Ceiling) and dict(ceiling.values) == {0: 15.0, 1: 15.0}
    assert isinstance(floor, Floor) and floor.layers == engine.safety_floor().layers
    assert set(floor.values.values()) == {-2.5}
    alone = engine.steering({}, caps=caps)
    assert [item.op for item in alone.recipe.interventions] == ["ceiling", "floor"] and not alone.safety


@pytest.mark.parametrize(
    ("caps", "word"),
    [
        ([Cap("safety", "floor", "25")], "p25"),
        ([Cap("safety", "floor", "p101")], "not a threshold"),
        ([Cap("safety", "floor", "p50")], "from p1 to p25"),
        ([Cap("sage", "floor", "p5")], "extract-axes"),
        ([Cap("sage", "floor", 1.0, (99,))], "no direction at layer 99"),
        ([Cap("sage", "floor", 2.0), Cap("sage", "ceiling", 1.0)], "above its ceiling"),
    ],
)
def test_a_cap_that_cannot_be_honoured_is_refused(caps: list[Cap], word: str, engine: SteeringEngine) -> None:
    with pytest.raises(RecipeError, match=word):
        engine.steering({}, caps=caps)


def test_a_cap_on_nothing_that_is_there_names_the_nearest(engine: SteeringEngine) -> None:
    with pytest.raises(NotFoundError, match="sagee"):
        engine.steering({}, caps=[Cap("sagee", "floor", 0.0)])
