"""What a finetuning has moved, against the last prompt token of both models in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.backends.tiny import make_vector, open_tiny, save_tiny
from tests.oracle import published

from persona_steering.backends.base import Backend, Progress, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import ModelMismatchError, RecipeError, UsageError
from persona_steering.evaluation.readouts import CONTROLS, Readout, control_readouts, make_readouts
from persona_steering.evaluation.shift import Shift, measure_shift
from persona_steering.vectors import ModelIdentity, SteeringVector

QUESTIONS = ("Is it far?", "What do you see?", "Who sent you here?", "Why?")
LAYERS = (1, 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("llama", tmp_path_factory.mktemp("shift") / "base")


@pytest.fixture(scope="module")
def vector(base: Path) -> SteeringVector:
    with open_tiny(base) as backend:
        return make_vector(backend.info.identity, name="evil", norms=dict.fromkeys(range(4), 2.5))


@pytest.fixture(scope="module")
def tuned(base: Path, vector: SteeringVector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model with every token's embedding moved along the vector of layer 1."""
    with open_tiny(base) as backend:
        model, loaded = backend.loaded.model, backend.loaded
        with torch.no_grad():
            model.model.embed_tokens.weight += 8 * torch.from_numpy(vector.unit(1))
        folder = tmp_path_factory.mktemp("shift") / "tuned"
        model.save_pretrained(folder)
        loaded.encoder.tokenizer.save_pretrained(folder)
        return folder


def opener(folder: Path, opened: list[Backend] | None = None) -> Callable[[], Backend]:
    def open_() -> Backend:
        backend = open_tiny(folder)
        if opened is not None:
            opened.append(backend)
        return backend

    return open_


def readouts_of(vector: SteeringVector) -> Callable[[ModelIdentity], tuple[Readout, ...]]:
    return lambda identity: make_readouts({"evil": vector}, LAYERS, identity)


@pytest.fixture(scope="module")
def found(base: Path, tuned: Path, vector: SteeringVector) -> Shift:
    return measure_shift(opener(base), opener(tuned), QUESTIONS, readouts_of(vector), seed=3)


def last_tokens(folder: Path, layer: int) -> np.ndarray:
    """The last prompt token of every question, `[questions, hidden]`; published row k is layer k - 1."""
    with open_tiny(folder) as backend:
        model, encoder = backend.loaded.model, backend.loaded.encoder
        prompts = [encoder.render(conversation(question)) for question in QUESTIONS]
        means = [published.token_means(model, encoder.tokenizer, prompt, ".") for prompt in prompts]
    return np.stack([one["prompt_last"][layer + 1].double().numpy() for one in means])


@pytest.mark.parametrize("place", range(len(LAYERS)))
def test_the_shift_is_the_mean_change_of_the_last_prompt_token(
    base: Path, tuned: Path, vector: SteeringVector, found: Shift, place: int
) -> None:
    layer = LAYERS[place]
    before, after = last_tokens(base, layer), last_tokens(tuned, layer)
    unit = vector.directions[layer].astype(np.float64) / np.linalg.norm(vector.directions[layer].astype(np.float64))
    moved = (after - before) @ unit
    one = found.shifts[place]
    assert (one.vector, one.layer) == ("evil", layer)
    assert np.allclose(one.by_question, moved, rtol=1e-4, atol=1e-5)
    assert one.base == pytest.approx((before @ unit).mean(), rel=1e-4, abs=1e-5)
    assert one.tuned == pytest.approx((after @ unit).mean(), rel=1e-4, abs=1e-5)
    assert one.shift.mean == pytest.approx(moved.mean(), rel=1e-4, abs=1e-5)
    assert one.shift.low <= one.shift.mean <= one.shift.high
    assert one.relative == pytest.approx(moved.mean() / 2.5, rel=1e-4, abs=1e-5)
    # the same change along the random directions
    controls = control_readouts(make_readouts({"evil": vector}, (layer,), vector.metadata.model), seed=3)  # type: ignore[arg-type]
    assert len(controls) == CONTROLS
    null = np.array([((after - before) @ one.vector.unit(layer)).mean() for one in controls])
    assert one.control_sd == pytest.approx(null.std(ddof=1), rel=1e-3)
    assert one.control_mean == pytest.approx(null.mean(), rel=1e-3, abs=1e-4)
    assert one.z == pytest.approx((moved.mean() - null.mean()) / null.std(ddof=1), rel=1e-3)


def test_a_model_moved_along_the_vector_stands_out_from_random_directions(found: Shift) -> None:
    assert abs(found.shifts[0].z or 0) > 2 and found.shifts[0].shift.low * found.shifts[0].shift.high > 0


def test_a_model_against_itself_has_not_moved(base: Path, vector: SteeringVector) -> None:
    for one in measure_shift(opener(base), opener(base), QUESTIONS, readouts_of(vector)).shifts:
        assert one.shift.mean == one.shift.low == one.shift.high == one.control_sd == 0 and one.z is None


def test_one_model_is_closed_before_the_other_is_opened(base: Path, tuned: Path, vector: SteeringVector) -> None:
    opened: list[Backend] = []

    def open_tuned() -> Backend:
        (first,) = opened
        assert isinstance(first, TransformersBackend)
        with pytest.raises(Exception, match="has been closed"):
            _ = first.loaded
        return open_tiny(tuned)

    measure_shift(opener(base, opened), open_tuned, QUESTIONS[:2], readouts_of(vector))


def test_a_model_of_another_size_is_refused(base: Path, vector: SteeringVector, tmp_path: Path) -> None:
    other = save_tiny("llama", tmp_path / "other", hidden_size=16)
    with pytest.raises(ModelMismatchError, match="same hidden size"):
        measure_shift(opener(base), opener(other), QUESTIONS, readouts_of(vector))


def test_what_cannot_be_measured_is_refused_before_the_tuned_model_is_loaded(
    base: Path, vector: SteeringVector
) -> None:
    def never() -> Backend:
        raise AssertionError("the tuned model was loaded")

    with pytest.raises(UsageError, match="at least 2"):
        measure_shift(never, never, QUESTIONS[:1], readouts_of(vector))
    with pytest.raises(RecipeError, match="no layer 9"):
        measure_shift(opener(base), never, QUESTIONS, lambda model: make_readouts({"evil": vector}, (9,), model))
    with pytest.raises(UsageError, match="cannot be asked: the prompt has"):
        measure_shift(opener(base), never, ("Why?", "x" * 400), readouts_of(vector))


def test_progress_names_both_models(base: Path, vector: SteeringVector) -> None:
    heard: list[Progress] = []
    measure_shift(opener(base), opener(base), QUESTIONS, readouts_of(vector), progress=heard.append)
    assert [(one.phase, one.done, one.total) for one in heard] == [
        ("base model", 0, 4),
        ("base model", 4, 4),
        ("tuned model", 0, 4),
        ("tuned model", 4, 4),
    ]
