"""The service of a model in this process: what it says of a blend is what its answers are made with."""

from __future__ import annotations

import pytest
from tests.engine.test_steering import SAMPLING, make_engine

from persona_steering.backends.base import Completion, conversation
from persona_steering.engine.service import LocalService
from persona_steering.engine.steering import SteeringEngine
from persona_steering.errors import NotFoundError, RecipeError

MESSAGES = conversation("hello")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> SteeringEngine:
    return make_engine(tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def service(engine: SteeringEngine) -> LocalService:
    for name in engine.manager.list_loaded():
        engine.manager.unload(name)
    return LocalService(engine)


def last(pieces: object) -> Completion:
    *_, done = pieces  # type: ignore[misc]
    assert isinstance(done, Completion)
    return done


def test_a_plan_is_plain_data_about_the_recipe(service: LocalService, engine: SteeringEngine) -> None:
    plan = service.plan({"sage": 0.5, "formal": -0.25})
    steering = engine.steering({"sage": 0.5, "formal": -0.25})
    assert (plan.recipe, plan.recipe_hash) == (steering.recipe.to_list(), steering.recipe.hash)
    assert plan.describe() == "sage:0.5,formal:-0.25" and plan.safety
    assert [(action.op, action.vector, action.layers) for action in plan.actions] == [
        ("add", "sage", (1, 2)),
        ("add", "formal", (1, 2)),
        ("floor", "safety", steering.recipe.interventions[2].layers),
    ]
    assert service.plan({}).describe() == "base" and not service.plan({}).actions


def test_the_dose_of_an_action_is_its_share_of_the_hidden_state(service: LocalService) -> None:
    (action,) = service.plan({"sage": 0.5}, safety=False).actions
    # unit directions, coefficients 3 and 5 at strength 1, hidden states of norm 10
    assert action.relative_dose == pytest.approx(0.5 * (3 + 5) / 10)


def test_answers_stream_and_batch_are_made_with_the_plan(service: LocalService) -> None:
    plans = [service.plan({}), service.plan({"sage": 1.0}), service.plan({"sage": 1.0}, safety=False)]
    batch = service.answers(MESSAGES, plans, sampling=SAMPLING)
    alone = [last(service.stream(MESSAGES, plan, sampling=SAMPLING)) for plan in plans]
    assert [done.text for done in batch] == [done.text for done in alone]
    assert [done.recipe_hash for done in batch] == [plan.recipe_hash for plan in plans]
    assert len({done.text for done in batch}) > 1


def test_an_answer_can_be_stopped(service: LocalService) -> None:
    plan = service.plan({})
    assert last(service.stream(MESSAGES, plan, sampling=SAMPLING, cancelled=lambda: True)).finish_reason == "cancelled"
    (done,) = service.answers(MESSAGES, [plan], sampling=SAMPLING, cancelled=lambda: True)
    assert done.finish_reason == "cancelled"


def test_names_are_loaded_and_unloaded(service: LocalService) -> None:
    assert service.available() == ["bare", "dull", "formal", "sage"]
    assert service.loaded() == []
    service.load("formal")
    service.plan({"sage": 0.5})
    assert service.loaded() == ["formal", "sage"]
    service.unload("sage")
    assert service.loaded() == ["formal"]


def test_what_cannot_be_honoured_is_refused(service: LocalService) -> None:
    with pytest.raises(NotFoundError, match="'sage'"):
        service.plan({"sgae": 1.0})
    with pytest.raises(RecipeError, match="out of range"):
        service.plan({"sage": 3.0})
    with pytest.raises(NotFoundError, match="'sage'"):
        service.load("sgae")
    with pytest.raises(NotFoundError, match="loaded persona"):
        service.unload("sage")
