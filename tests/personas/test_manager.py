"""PersonaManager: what is on disk and in memory, for one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import make_vector

from persona_steering.config import Config, get_config
from persona_steering.errors import ModelMismatchError, NotFoundError, UsageError, VectorError
from persona_steering.personas.manager import PersonaManager
from persona_steering.vectors import ModelIdentity, SteeringVector, replace_metadata
from persona_steering.vectors.formats import persona_vectors_pt

MODEL = ModelIdentity(id="tiny", fingerprint="a" * 16, num_layers=4, hidden_size=8)
OTHER = ModelIdentity(id="other", fingerprint="b" * 16, num_layers=4, hidden_size=8)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return get_config(overrides={"paths.vectors": tmp_path})


@pytest.fixture
def manager(config: Config) -> PersonaManager:
    manager = PersonaManager(config, model=MODEL)
    manager.save(make_vector(MODEL, name="sage"))
    return manager


def axis() -> SteeringVector:
    vector = make_vector(MODEL, name="safety", seed=9)
    return replace_metadata(vector, vector.metadata.model_copy(update={"kind": "axis"}))


def test_a_saved_vector_is_available_and_loaded(manager: PersonaManager) -> None:
    assert manager.list_available() == ["sage"]
    assert manager.list_loaded() == ["sage"]
    manager.unload("sage")
    assert manager.list_loaded() == []
    assert manager.load("sage").name == "sage"


def test_unknown_names_are_refused_with_the_nearest(manager: PersonaManager) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'sage'"):
        manager.load("sgae")
    with pytest.raises(NotFoundError, match="loaded persona 'pirate'"):
        manager.unload("pirate")
    with pytest.raises(UsageError, match="not a valid name"):
        manager.load("../sage")


def test_delete_removes_it_from_disk_and_memory(manager: PersonaManager) -> None:
    manager.delete("sage")
    assert manager.list_available() == manager.list_loaded() == []


def test_a_vector_that_somebody_else_replaces_is_read_again(manager: PersonaManager, config: Config) -> None:
    before = manager.load("sage")
    assert manager.load("sage") is before, "an unchanged file is not read again"
    PersonaManager(config, model=MODEL).save(make_vector(MODEL, name="sage", seed=7))
    after = manager.load("sage")
    assert after.digest == make_vector(MODEL, name="sage", seed=7).digest != before.digest
    assert manager.load("sage") is after


def test_a_vector_that_somebody_else_deletes_is_gone_from_memory_too(manager: PersonaManager, config: Config) -> None:
    manager.load("sage")
    other = PersonaManager(config, model=MODEL)
    other.delete("sage")
    assert manager.list_loaded() == []
    with pytest.raises(NotFoundError, match="unknown persona or trait 'sage'"):
        manager.load("sage")
    trait = make_vector(MODEL, name="sage", seed=3)
    other.save(replace_metadata(trait, trait.metadata.model_copy(update={"kind": "trait"})))
    assert manager.load("sage").metadata.kind == "trait"


def test_the_safe_vector_is_orthogonal_to_the_safety_axis_at_every_layer(manager: PersonaManager) -> None:
    with pytest.raises(NotFoundError, match="no safety axis yet"):
        manager.get_vector("sage", safe=True)
    manager.save(axis())
    before = manager.get_vector("sage", safe=False).cosine(axis())
    after = manager.get_vector("sage", safe=True).cosine(axis())
    assert max(map(abs, before.values())) > 0.01
    assert max(map(abs, after.values())) < 1e-4


def test_a_composite_is_the_weighted_sum(manager: PersonaManager) -> None:
    second = make_vector(MODEL, name="pirate", seed=1)
    manager.save(second)
    blend = manager.get_composite({"sage": 0.5, "pirate": -0.3}, safe=False)
    first = manager.load("sage")
    expected = 0.5 * first.directions[2] - 0.3 * second.directions[2]
    assert np.allclose(blend.directions[2], expected, atol=1e-6)


def test_vectors_of_another_model_are_refused_by_name(manager: PersonaManager) -> None:
    manager.bind(OTHER)
    assert manager.list_loaded() == []
    with pytest.raises(ModelMismatchError, match="tiny"):
        manager.load("sage")


def test_without_a_model_the_only_one_in_the_store_is_meant(manager: PersonaManager, config: Config) -> None:
    assert PersonaManager(config).load("sage").metadata.model == MODEL
    manager.store.save(make_vector(OTHER, name="pirate"))
    with pytest.raises(UsageError, match="2 models"):
        PersonaManager(config).load("sage")


def test_data_of_ones_own_becomes_a_persona(manager: PersonaManager) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    made = manager.create_from_data("mine", rows, description="d", reference_norms=dict.fromkeys(range(4), 2.0))
    assert np.array_equal(made.directions[3], rows[3])
    assert manager.load("mine").metadata.description == "d"
    from_mapping = manager.create_from_data("two", {1: rows[1]})
    assert from_mapping.layers == (1,)
    with pytest.raises(UsageError, match="exists already"):
        manager.create_from_data("mine", rows)
    with pytest.raises(VectorError, match="5 values where 8 are expected"):
        manager.create_from_data("wrong", rows[:, :5])


def test_a_vector_is_found_by_its_name_or_by_its_file(manager: PersonaManager, tmp_path: Path) -> None:
    manager.save(axis())
    assert manager.find_vector("sage").metadata.kind == "persona"
    assert manager.find_vector("safety").metadata.kind == "axis"
    stored = manager.store.path("persona", "sage", MODEL)
    assert np.array_equal(manager.find_vector(str(stored)).directions[2], manager.load("sage").directions[2])
    published = tmp_path / "evil_response_avg_diff.pt"
    persona_vectors_pt.write(published, manager.load("sage"))
    found = manager.find_vector(str(published))
    assert found.metadata.model == MODEL and found.layers == (0, 1, 2)


def test_a_vector_that_no_model_has_is_refused_before_a_model_is_known(config: Config, manager: PersonaManager) -> None:
    manager.save(axis())
    unbound = PersonaManager(config)
    for source in ("sage", "safety", str(manager.store.path("persona", "sage", MODEL))):
        unbound.check_source(source)
    with pytest.raises(NotFoundError, match="Did you mean 'sage'"):
        unbound.check_source("sgae")
    with pytest.raises(NotFoundError, match="there is no file"):
        unbound.check_source("sage.pt")


def test_a_vector_that_is_nowhere_is_refused_as_what_it_was_asked_for(manager: PersonaManager, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'sage'"):
        manager.find_vector("sgae")
    with pytest.raises(UsageError, match="not a valid name"):
        manager.find_vector("Sage")
    with pytest.raises(NotFoundError, match="there is no file"):
        manager.find_vector(str(tmp_path / "sage"))
    manager.bind(OTHER)
    with pytest.raises(ModelMismatchError):
        manager.find_vector(str(manager.store.path("persona", "sage", MODEL)))


def test_a_vector_without_reference_norms_gets_those_of_its_model_once_there_are_some(manager: PersonaManager) -> None:
    def with_norms(vector: SteeringVector, **changes: object) -> SteeringVector:
        return replace_metadata(vector, vector.metadata.model_copy(update=changes))

    manager.save(with_norms(make_vector(MODEL, name="foreign"), reference_norms={}))
    assert manager.load("foreign").metadata.reference_norms == {}
    safety = dict.fromkeys(range(4), 20.0)
    manager.save(with_norms(axis(), reference_norms=safety))
    assert manager.load("foreign").metadata.reference_norms == safety
    manager.unload("foreign")
    own = dict.fromkeys(range(4), 21.0)
    manager.save(with_norms(axis(), name="assistant-baseline", kind="baseline", reference_norms=own))
    assert manager.load("foreign").metadata.reference_norms == own  # its own answers rather than those to safe prompts
    measured = dict.fromkeys(range(4), 3.0)
    manager.save(with_norms(make_vector(MODEL, name="sage"), reference_norms=measured))
    assert manager.load("sage").metadata.reference_norms == measured
