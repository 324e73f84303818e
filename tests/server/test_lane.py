"""A backend as a job sees it: the same answers, in turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.backends.tiny import HIDDEN, make_vector, tiny_backend

from persona_steering.backends.base import Completion, Request, Sampling, Text, conversation
from persona_steering.backends.tokens import Trace
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError
from persona_steering.server.model.lane import LanedBackend

REQUESTS = [Request(conversation(f"{i}?"), sampling=Sampling(max_new_tokens=4, seed=i), capture=(1,)) for i in range(5)]
TEXTS = [Text(request.messages, f"answer {i}") for i, request in enumerate(REQUESTS)]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("lane"))


class Turns:
    """Counts turns, and refuses them from one on."""

    def __init__(self, most: int = 1000) -> None:
        self.count, self._most, self.open = 0, most, False

    @contextmanager
    def turn(self) -> Iterator[None]:
        if self.count == self._most:
            raise CancelledError("stopped.")
        assert not self.open, "turns are never nested"
        self.count, self.open = self.count + 1, True
        yield
        self.open = False


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def laned(backend: TransformersBackend, turns: Turns) -> LanedBackend:
    return LanedBackend(backend, turns.turn, batch=2)


def test_answers_are_those_of_the_backend_in_turns_of_a_batch(
    laned: LanedBackend, backend: TransformersBackend, turns: Turns
) -> None:
    heard: dict[int, Completion] = {}
    found = laned.generate(REQUESTS, on_done=heard.__setitem__)
    assert [one.text for one in found] == [one.text for one in backend.generate(REQUESTS)]
    assert [heard[i] for i in range(5)] == found
    assert turns.count == 3


def test_scores_and_activations_are_those_of_the_backend(
    laned: LanedBackend, backend: TransformersBackend, turns: Turns
) -> None:
    for mine, own in zip(laned.score(TEXTS), backend.score(TEXTS), strict=True):
        np.testing.assert_allclose(mine.logprobs, own.logprobs, atol=1e-5)
    for mine_at, own_at in zip(laned.capture(TEXTS, layers=[2]), backend.capture(TEXTS, layers=[2]), strict=True):
        np.testing.assert_allclose(mine_at.mean[2], own_at.mean[2], atol=1e-5)
    tops = [[choice.text for choice in one] for one in backend.next_tokens(TEXTS, top=2)]
    assert [[choice.text for choice in one] for one in laned.next_tokens(TEXTS, top=2)] == tops
    trace = Trace("sage", make_vector(backend.info.identity), 2)
    read = zip(laned.readings(TEXTS, [trace]), backend.readings(TEXTS, [trace]), strict=True)
    for mine_read, own_read in read:
        np.testing.assert_allclose(mine_read.values["sage"], own_read.values["sage"], atol=1e-5)
    assert turns.count == 12


def test_one_answer_is_streamed_in_one_turn(laned: LanedBackend, backend: TransformersBackend, turns: Turns) -> None:
    *pieces, last = laned.stream(REQUESTS[0])
    assert isinstance(last, Completion)
    assert "".join(map(str, pieces)) == last.text == backend.generate(REQUESTS[:1])[0].text
    assert (turns.count, turns.open) == (1, False)


def test_what_is_not_asked_of_the_device_takes_no_turn(
    laned: LanedBackend, backend: TransformersBackend, turns: Turns
) -> None:
    assert laned.generate([]) == laned.score([]) == []
    assert laned.info == backend.info
    assert laned.capabilities == backend.capabilities
    assert laned.render(REQUESTS[0].messages) == backend.render(REQUESTS[0].messages)
    assert turns.count == 0
    assert laned.unembed(np.ones(HIDDEN, np.float32), top=1)
    assert turns.count == 1


def test_a_turn_that_is_refused_stops_the_work(backend: TransformersBackend) -> None:
    turns = Turns(most=1)
    heard: list[int] = []
    with pytest.raises(CancelledError):
        LanedBackend(backend, turns.turn, batch=2).generate(REQUESTS, on_done=lambda i, _: heard.append(i))
    assert sorted(heard) == [0, 1]


def test_closing_it_leaves_the_model_to_its_owner(laned: LanedBackend) -> None:
    with laned:
        pass
    assert laned.generate(REQUESTS[:1])[0].text
