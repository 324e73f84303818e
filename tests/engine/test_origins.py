"""Where a vector comes from: its run where that is here, else its prompts, else the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.backends.tiny import make_vector, tiny_backend

from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.config import Config, get_config
from persona_steering.engine.create import run_place
from persona_steering.engine.library import Library
from persona_steering.engine.origins import answers_made_from, find_origin, held_out_questions
from persona_steering.errors import UsageError
from persona_steering.evaluation.card import Missing
from persona_steering.evaluation.held_out import Sides
from persona_steering.extraction.contrast import Extraction, ExtractionSettings, extract_baseline, extract_persona
from persona_steering.extraction.run import Run
from persona_steering.personas import Persona, load_archetype, load_library_trait, trait_from_word
from persona_steering.personas.datasets import Datasets
from persona_steering.vectors import SteeringVector, VectorStore, replace_metadata

SAGE = Persona(name="sage", system_prompts=("You are a sage of old.", "You are a slow teacher."))


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.getbasetemp() / "origins", max_position_embeddings=1024)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return get_config(overrides={"paths.runs": tmp_path / "runs", "paths.vectors": tmp_path / "vectors"})


@pytest.fixture
def made(tiny: TransformersBackend, config: Config) -> Extraction:
    """A persona's vector with its run on disk."""
    settings = ExtractionSettings(
        questions=("Who are you?", "What is good?", "Why?"),
        prompts_per_question=2,
        max_new_tokens=5,
        layers=(0, 1, 2, 3),
        filter=False,
    )
    baseline = extract_baseline(tiny, settings, run=Run(*run_place(config, tiny.identity, "baseline", settings, None)))
    plan = SAGE.model_dump(mode="json")
    run = Run(*run_place(config, tiny.identity, SAGE.name, settings, plan))
    return extract_persona(tiny, SAGE, settings, run=run, baseline=baseline)


def test_a_vector_is_traced_to_its_run_whose_answers_give_it_again(
    tiny: TransformersBackend, config: Config, made: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = find_origin(made.vector, config, tiny.identity)
    assert (origin.subject, origin.said) == (SAGE, "its run")
    monkeypatch.setattr(TransformersBackend, "generate", lambda *a, **k: pytest.fail("asked again"))
    sides = answers_made_from(tiny, origin, made.vector, config)
    assert isinstance(sides, Sides)
    for layer in made.vector.layers:
        plus, minus = sides.means(layer)
        assert np.allclose(plus.mean(0) - minus.mean(0), made.vector.directions[layer], atol=1e-5)


def test_a_run_that_gives_another_vector_is_not_believed(
    tiny: TransformersBackend, config: Config, made: Extraction
) -> None:
    origin = find_origin(made.vector, config, tiny.identity)
    changed = replace_metadata(made.vector * 2.0, made.vector.metadata)
    found = answers_made_from(tiny, origin, changed, config)
    assert isinstance(found, Missing) and "another vector" in found.reason


def test_the_run_of_other_settings_prompts_or_another_model_is_not_its_own(
    tiny: TransformersBackend, config: Config, made: Extraction
) -> None:
    other = tiny.identity.model_copy(update={"fingerprint": "0" * 16})
    assert find_origin(made.vector, config, other).said == "its own system prompts"
    for changes in ({"settings": {**made.vector.metadata.settings, "temperature": 0.1}}, {"data_hashes": {}}):
        metadata = made.vector.metadata.model_copy(update=changes)
        assert find_origin(replace_metadata(made.vector, metadata), config, tiny.identity).settings is None


def test_a_damaged_plan_is_passed_over(tiny: TransformersBackend, config: Config, made: Extraction) -> None:
    for plan in config.runs_dir.glob("sage-*/plan.json"):
        plan.write_text("{")
    origin = find_origin(made.vector, config, tiny.identity)
    assert origin.settings is None
    found = answers_made_from(tiny, origin, made.vector, config)
    assert isinstance(found, Missing) and "not here" in found.reason


def vector_of(tiny: TransformersBackend, **changes: object) -> SteeringVector:
    vector = make_vector(tiny.identity)
    return replace_metadata(vector, vector.metadata.model_copy(update=changes))


def test_without_a_run_a_trait_is_known_by_its_word_or_from_the_library(
    tiny: TransformersBackend, config: Config
) -> None:
    calm, evil = trait_from_word("calm", "nervous"), load_library_trait("evil")
    for trait in (calm, evil):
        pos = tuple(pair.pos for pair in trait.pairs)
        vector = vector_of(tiny, name=trait.name, kind="trait", source=trait.source, system_prompts=pos)
        assert find_origin(vector, config, tiny.identity).subject == trait


def test_an_imported_vector_without_prompts_is_known_by_its_name_and_that_is_said(
    tiny: TransformersBackend, config: Config
) -> None:
    origin = find_origin(vector_of(tiny, name="evil", kind="trait"), config, tiny.identity)
    assert origin.subject == load_library_trait("evil") and "by its name" in origin.said
    origin = find_origin(vector_of(tiny, name="pirate"), config, tiny.identity)
    assert origin.subject == load_archetype("pirate") and "by its name" in origin.said
    with pytest.raises(UsageError, match="which system prompts 'mystery'"):
        find_origin(vector_of(tiny, name="mystery"), config, tiny.identity)


def test_held_out_questions_are_those_that_no_vector_is_extracted_from() -> None:
    sets = Datasets(None)
    evil = load_library_trait("evil")
    assert held_out_questions(evil, 3, sets) == evil.evaluation_questions[:3]
    common = held_out_questions(SAGE, 5, sets)
    assert set(common) <= set(sets.calibration_questions()) and common[0] == sets.calibration_questions()[-1]
    with pytest.raises(UsageError, match="41 held-out questions"):
        held_out_questions(SAGE, 41, sets)
    with pytest.raises(UsageError, match="1 held-out"):
        held_out_questions(evil, 1, sets)


def test_a_copy_is_traced_to_the_run_of_its_original(
    tiny: TransformersBackend, config: Config, made: Extraction
) -> None:
    VectorStore(config.vectors_dir).save(made.vector)
    library = Library(config, tiny.identity)
    library.fork(library.find("sage", ("persona",)), "elder")
    copy = library.read(library.find("elder", ("persona",)))
    origin = find_origin(copy, config, tiny.identity)
    assert (origin.subject, origin.said) == (SAGE, "its run")
    assert isinstance(answers_made_from(tiny, origin, copy, config), Sides)


def test_a_copy_of_a_librarys_trait_is_still_that_trait(tiny: TransformersBackend, config: Config) -> None:
    silly = load_library_trait("silly")
    changes = {"kind": "trait", "source": silly.source, "system_prompts": tuple(pair.pos for pair in silly.pairs)}
    VectorStore(config.vectors_dir).save(vector_of(tiny, name="silly", **changes))
    library = Library(config, tiny.identity)
    copy = library.read(library.fork(library.find("silly", ("trait",)), "goofy"))
    assert find_origin(copy, config, tiny.identity).subject == silly


@pytest.mark.parametrize("name", ["../../outside", "*", "", 3, None])
def test_an_original_that_a_file_claims_is_never_a_path(name: object, tiny: TransformersBackend) -> None:
    vector = vector_of(tiny, name="sage", settings={"forked_from": name})
    assert vector.metadata.made_as == "sage"
