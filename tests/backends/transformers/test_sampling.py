"""Choosing tokens: the right distribution, and a row that depends on itself alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from persona_steering.backends.base import Sampling
from persona_steering.backends.transformers.sampling import Sampler, uniforms

CPU = torch.device("cpu")
DRAWS = 4000


def draw(logits: torch.Tensor, **options: float) -> np.ndarray:
    """Frequencies of many draws of one seed: every step draws anew."""
    row = Sampling(**({"max_new_tokens": DRAWS, "seed": 1} | options))  # type: ignore[arg-type]
    sampler = Sampler([row], CPU)
    tokens = torch.cat([sampler(logits[None], [step]) for step in range(DRAWS)])
    return np.bincount(tokens.numpy(), minlength=len(logits)) / DRAWS


LOGITS = torch.tensor([1.0, -1.0, 2.5, 0.0, 2.0, -30.0, 0.5])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature: float) -> None:
    expected = torch.softmax(LOGITS / temperature, -1).numpy()
    np.testing.assert_allclose(draw(LOGITS, temperature=temperature), expected, atol=0.03)


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
def test_top_p_keeps_the_smallest_set_that_reaches_it_and_renormalises(top_p: float) -> None:
    p = torch.softmax(LOGITS, -1).numpy().astype(np.float64)
    order = np.argsort(-p)
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
    expected = np.zeros_like(p)
    expected[kept] = p[kept] / p[kept].sum()
    found = draw(LOGITS, temperature=1.0, top_p=top_p)
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert (found[expected == 0] == 0).all()


def test_temperature_zero_is_the_largest_logit_beside_sampled_rows() -> None:
    rows = [Sampling(temperature=0, max_new_tokens=3), Sampling(temperature=1.0, max_new_tokens=3)]
    sampler = Sampler(rows, CPU)
    for step in range(3):
        assert int(sampler(LOGITS.repeat(2, 1), [step] * 2)[0]) == 2


@pytest.mark.parametrize("temperature", [1e-50, 1e-9, 1e-4])
def test_a_temperature_near_zero_is_nearly_greedy_and_never_nonsense(temperature: float) -> None:
    rows = [Sampling(temperature=temperature, max_new_tokens=8, seed=seed) for seed in range(8)]
    logits = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 100
    sampler = Sampler(rows, CPU)
    assert torch.equal(sampler(logits, [0] * len(logits)), logits.argmax(-1))


NEIGHBOURS = [
    Sampling(temperature=0),
    Sampling(temperature=1.3, seed=8),
    Sampling(temperature=1.0, top_p=0.5, seed=9),
    Sampling(temperature=5.0, top_p=0.9999, seed=9),  # needs the whole vocabulary sorted
]


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("row", NEIGHBOURS, ids=["greedy", "plain", "nucleus", "wide-nucleus"])
def test_a_row_draws_the_same_tokens_whatever_its_neighbours_sample(row: Sampling, ties: bool) -> None:
    """Half-precision logits are full of ties; their order must not depend on how neighbours were sorted."""
    generator = torch.Generator().manual_seed(3)
    for step in range(60):
        logits = 3 * torch.randn(len(NEIGHBOURS), 2000, generator=generator)
        if ties:
            logits = logits.round()
        alone = Sampler([row], CPU)(logits[:1], [step])
        for other in range(len(NEIGHBOURS)):
            pair = Sampler([row, NEIGHBOURS[other]], CPU)(torch.stack([logits[0], logits[other]]), [step] * 2)
            assert int(pair[0]) == int(alone[0])


def test_rows_keep_their_own_numbers_when_others_are_dropped() -> None:
    rows = [Sampling(temperature=1.0, seed=seed, max_new_tokens=4 + seed) for seed in range(4)]
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0))
    whole, cut = Sampler(rows, CPU), Sampler(rows, CPU)
    cut.keep(torch.tensor([1, 3]))
    for step in range(4):
        assert torch.equal(whole(logits, [step] * 4)[[1, 3]], cut(logits[[1, 3]], [step] * 2))


def test_the_uniform_numbers_of_a_seed_are_a_prefix_of_a_longer_answers() -> None:
    short, long = uniforms(5, 10, 40), uniforms(5, 40, 40)
    assert np.array_equal(short[:10], long[:10]) and not short[10:].any()
    assert short.dtype == np.float32 and (long < 1).all() and (long >= 0).all()
    assert not np.array_equal(long, uniforms(6, 40, 40))
    assert uniforms(2**63 - 1, 3, 3).shape == (3,)


@pytest.mark.parametrize("number", [0.0, 0.5, float(np.float32(1 - 2**-24))])
@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_no_uniform_number_can_choose_a_token_of_probability_zero(number: float, top_p: float) -> None:
    logits = torch.full((1, 1000), -torch.inf)
    logits[0, 200:800] = torch.linspace(0, 1e-3, 600)
    sampler = Sampler([Sampling(temperature=1.0, top_p=top_p, max_new_tokens=1)], CPU)
    sampler._uniform[:] = number
    assert 200 <= int(sampler(logits, [0])) < 800
