"""The parities that make steering trustworthy, on every family of decoder."""

from __future__ import annotations

import pytest
from tests.backends.tiny import MIXTURES, WINDOW
from tests.contract import parity

from persona_steering.backends.transformers.backend import TransformersBackend


def test_greedy_rows_of_a_mixed_batch_equal_themselves_alone(backend: TransformersBackend) -> None:
    parity.check_batch_equals_single(backend, temperature=0)


def test_sampled_rows_of_a_mixed_batch_equal_themselves_alone(backend: TransformersBackend) -> None:
    parity.check_batch_equals_single(backend, temperature=0.9)


def test_rows_that_end_early_leave_the_others_alone(backend: TransformersBackend) -> None:
    parity.check_rows_that_end_early_leave_the_others_alone(backend)


def test_cached_decoding_equals_a_full_forward_without_cache(backend: TransformersBackend) -> None:
    parity.check_cache_equals_no_cache(backend)


def test_scores_equal_the_oracle_in_a_batch_and_alone(backend: TransformersBackend) -> None:
    parity.check_score_equals_oracle(backend)


def test_captures_equal_the_oracle_in_a_batch_and_alone(backend: TransformersBackend) -> None:
    parity.check_capture_equals_oracle(backend)


def test_capture_while_writing_equals_teacher_forcing(backend: TransformersBackend) -> None:
    parity.check_generated_capture_equals_forced(backend)


def test_an_unsteered_row_does_not_notice_its_neighbours(backend: TransformersBackend) -> None:
    model_type = backend.info.identity.model_type
    parity.check_unsteered_row_is_untouched(backend, exact=model_type not in MIXTURES)


def test_no_hook_outlives_a_call(backend: TransformersBackend) -> None:
    before = parity.count_hooks(backend)
    backend.generate(parity.requests(parity.mixed_recipes(backend), capture=[0], temperature=0, tokens=2))
    assert parity.count_hooks(backend) == before


@pytest.mark.parametrize("prompt", parity.PROMPTS)
def test_prompts_are_longer_than_the_sliding_window(llama: TransformersBackend, prompt: str) -> None:
    messages = parity.conversation(prompt)
    assert len(llama.loaded.encoder.encode(messages)) >= WINDOW
