"""The card of a vector: its status is that of the place where it is used."""

from __future__ import annotations

import pytest

from persona_steering.vectors import Calibration, Card, Interval, VectorStore, make_cards
from persona_steering.vectors.card import MEASURED_WITH, Surroundings, metadata_card, vector_card
from persona_steering.vectors.metadata import ASSISTANT_AXIS, SAFETY_AXIS

FLOORS = {"1": {0: -0.5}}


def calibration(*, weak_reason: str = "", measured_with: str = "", safe: bool = False) -> Calibration:
    return Calibration(
        layers=(1,),
        coefficients={1: 0.4},
        relative_dose=0.2,
        weak=bool(weak_reason),
        weak_reason=weak_reason,
        persona_score=Interval(mean=0.8, low=0.7, high=0.9),
        safe=safe,
        settings={MEASURED_WITH: measured_with} if measured_with else {},
    )


@pytest.fixture
def store(tmp_path):
    return VectorStore(tmp_path / "vectors")


def statuses(store, model, **options) -> dict[str, tuple[str, str]]:
    return {card.name: (card.status, card.reason) for card in make_cards(store.list(), model, **options)}


def test_a_calibrated_vector_of_the_model_is_ready_and_a_weak_one_says_why(store, make_vector, make_model):
    store.save(make_vector("sage", calibration=calibration()))
    store.save(make_vector("bland", calibration=calibration(weak_reason="persona score 0.1")))
    store.save(make_vector("raw"))
    found = statuses(store, make_model())
    assert found["sage"] == ("ready", "")
    assert found["bland"] == ("weak", "persona score 0.1")
    assert found["raw"][0] == "not calibrated"


def test_the_status_is_that_of_the_form_in_use(store, make_vector, make_model):
    safe = calibration(weak_reason="nothing is left", safe=True)
    store.save(make_vector("sage", calibration=calibration(), safe_calibration=safe))
    (card,) = make_cards(store.list(), make_model())
    assert card.status == "weak" and card.calibration == safe and card.max_strength == 1.0
    (card,) = make_cards(store.list(), make_model(), safety=False)
    assert card.status == "ready" and card.calibration == calibration()


def test_a_vector_of_another_model_or_of_none_does_not_fit(store, make_vector, make_model):
    store.save(make_vector("sage", calibration=calibration()))
    other = make_model("hf:other/model", fingerprint="f" * 16)
    (card,) = make_cards(store.list(), other)
    assert (card.status, card.fits) == ("other model", False) and "hf:tiny/llama" in card.reason
    assert make_cards(store.list(), None)[0].status == "other model"
    homeless = make_vector("x").metadata.model_copy(update={"model": None})
    assert metadata_card(homeless, Surroundings(make_model())).reason == "it does not say which model it was made for"


def test_a_vector_whose_model_changed_under_its_name_is_stale(store, make_vector, make_model):
    store.save(make_vector("sage", calibration=calibration()))
    (card,) = make_cards(store.list(), make_model(fingerprint="f" * 16))
    assert (card.status, card.fits) == ("stale", False) and "weights" in card.reason


def test_a_safe_calibration_is_stale_once_its_safety_axis_is_replaced_or_gone(store, make_vector, make_model):
    axis = make_vector(SAFETY_AXIS, kind="axis", thresholds=FLOORS)
    store.save(axis)
    safe = calibration(measured_with=axis.digest, safe=True)
    store.save(make_vector("sage", calibration=calibration(), safe_calibration=safe))
    assert statuses(store, make_model())["sage"] == ("ready", "")
    store.save(make_vector(SAFETY_AXIS, kind="axis", thresholds=FLOORS, seed=9))
    status, reason = statuses(store, make_model())["sage"]
    assert status == "stale" and "another safety axis" in reason
    assert statuses(store, make_model(), safety=False)["sage"] == ("ready", "")
    store.delete("axis", SAFETY_AXIS, make_model())
    status, reason = statuses(store, make_model())["sage"]
    assert status == "stale" and "not there" in reason


def test_the_assistant_axis_is_stale_once_its_personas_change(store, make_vector, make_model):
    sage, pirate = make_vector("sage", seed=1), make_vector("pirate", seed=2)
    members = {vector.name: vector.digest for vector in (sage, pirate)}
    for vector in (sage, pirate, make_vector(ASSISTANT_AXIS, kind="axis", thresholds=FLOORS, data_hashes=members)):
        store.save(vector)
    assert statuses(store, make_model())[ASSISTANT_AXIS] == ("ready", "")
    store.save(make_vector("calm", kind="trait"))  # traits have no part in it
    assert statuses(store, make_model())[ASSISTANT_AXIS] == ("ready", "")
    store.save(make_vector("pirate", seed=3))
    status, reason = statuses(store, make_model())[ASSISTANT_AXIS]
    assert status == "stale" and "pirate" in reason and "sage" not in reason
    store.save(make_vector("pirate", seed=2))
    store.save(make_vector("fool", seed=4))
    assert "fool" in statuses(store, make_model())[ASSISTANT_AXIS][1]


def test_an_axis_without_thresholds_is_not_calibrated_and_a_baseline_needs_none(store, make_vector, make_model):
    store.save(make_vector(SAFETY_AXIS, kind="axis"))
    store.save(make_vector("mean", kind="baseline"))
    found = statuses(store, make_model())
    assert found[SAFETY_AXIS][0] == "not calibrated" and found["mean"][0] == "ready"


def test_a_damaged_file_has_a_card_that_says_so(store, make_vector, make_model):
    path = store.save(make_vector(SAFETY_AXIS, kind="axis"))
    path.write_bytes(b"cut")
    (card,) = make_cards(store.list(), make_model())
    assert (card.name, card.kind, card.status) == (SAFETY_AXIS, "axis", "broken")
    assert "safetensors" in card.reason and card.metadata is None and card.calibration is None
    assert (card.kept, card.dropped, card.max_strength) == (None, None, None)


def test_a_card_has_the_facts_of_the_file_and_survives_json(store, make_vector, make_model):
    vector = make_vector("sage", layers=[1, 3], counts={"kept": 58, "dropped": 2}, calibration=calibration())
    store.save(vector)
    (card,) = make_cards(store.list(), make_model())
    assert (card.layers, card.digest, card.norms) == ((1, 3), vector.digest, {})
    assert (card.kept, card.dropped) == (58, 2)
    full = vector_card(vector, Surroundings(make_model()))
    assert full == card.model_copy(update={"norms": vector.norms})
    assert Card.model_validate_json(full.model_dump_json()) == full
