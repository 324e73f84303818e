"""The run folder: batches, resuming, damage, seeds; and running moments against numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.backends.tiny import tiny_backend

from persona_steering.backends.base import Completion, Request, Sampling, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.errors import CancelledError
from persona_steering.extraction.run import BATCH, Moments, Run, answer_seed, requests_digest


class Counting:
    """Passes requests on, and counts them."""

    def __init__(self, backend: TransformersBackend) -> None:
        self.backend = backend
        self.asked = 0

    def generate(self, requests: Sequence[Request], *, cancelled=None) -> list[Completion]:  # type: ignore[no-untyped-def]
        self.asked += len(requests)
        return self.backend.generate(requests, cancelled=cancelled)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    return tiny_backend("llama", tmp_path_factory.mktemp("models"))


def requests(count: int = BATCH + 5, *, tokens: int = 4) -> list[Request]:
    return [
        Request(conversation(f"q{i}?"), sampling=Sampling(max_new_tokens=tokens, seed=i), capture=(1, 3))
        for i in range(count)
    ]


def test_answers_come_from_disk_the_second_time(backend: TransformersBackend, tmp_path: Path) -> None:
    asked = requests()
    first, second = Counting(backend), Counting(backend)
    made = Run(tmp_path, {}).answers(first, asked, phase="p")  # type: ignore[arg-type]
    read = Run(tmp_path, {}).answers(second, asked, phase="p")  # type: ignore[arg-type]
    assert (first.asked, second.asked) == (len(asked), 0)
    for a, b in zip(made, read, strict=True):
        assert (a.text, a.tokens) == (b.text, b.tokens)
        assert a.mean is not None
        assert np.array_equal(a.mean, b.mean)
        assert np.array_equal(a.norms, b.norms)
        assert a.mean.shape == (2, backend.info.identity.hidden_size)


def test_a_damaged_batch_is_made_again(backend: TransformersBackend, tmp_path: Path) -> None:
    asked = requests()
    whole = Run(tmp_path, {}).answers(backend, asked, phase="p")
    file = sorted(tmp_path.rglob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:200])
    counting = Counting(backend)
    again = Run(tmp_path, {}).answers(counting, asked, phase="p")  # type: ignore[arg-type]
    assert counting.asked == BATCH
    assert [answer.text for answer in again] == [answer.text for answer in whole]


def test_changed_settings_never_meet_old_answers(backend: TransformersBackend, tmp_path: Path) -> None:
    Run(tmp_path, {}).answers(backend, requests(3, tokens=4), phase="p")
    counting = Counting(backend)
    Run(tmp_path, {}).answers(counting, requests(3, tokens=5), phase="p")  # type: ignore[arg-type]
    assert counting.asked == 3


def test_cancelling_keeps_the_batches_that_ended(backend: TransformersBackend, tmp_path: Path) -> None:
    asked, ticks = requests(), iter(range(10_000))
    with pytest.raises(CancelledError, match="goes on from"):
        Run(tmp_path, {}).answers(backend, asked, phase="p", cancelled=lambda: next(ticks) > 6)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_the_digest_tells_everything_that_changes_an_answer() -> None:
    base = requests(2)
    variants = [
        requests(3),
        requests(2, tokens=9),
        [Request(base[0].messages, sampling=base[0].sampling, capture=(2,)), base[1]],
        [Request(conversation("q0?", "You are a cook."), sampling=base[0].sampling, capture=(1, 3)), base[1]],
    ]
    digests = {requests_digest(group) for group in (base, *variants)}
    assert len(digests) == 5
    assert requests_digest(requests(2)) == requests_digest(base)


def test_seeds_depend_on_place_and_run_only() -> None:
    assert answer_seed(0, "persona", 3) == answer_seed(0, "persona", 3)
    seeds = {answer_seed(s, phase, i) for s in (0, 1) for phase in ("persona", "baseline") for i in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


@given(arrays(np.float32, (7, 2, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_running_moments_equal_numpy_in_float64(values: np.ndarray) -> None:
    moments = Moments()
    for value in values:
        moments.add(value)
    wide = values.astype(np.float64)
    assert np.allclose(moments.mean, wide.mean(0), atol=1e-9)
    assert np.allclose(moments.variance, wide.var(0, ddof=1), atol=1e-6)
