"""Every intervention reaches its value at every touched token and touches no other, seen by the test's own hooks.

Rows of different lengths are decoded in one batch, so positions must be right under left padding and the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from tests.backends.tiny import make_tokenizer, make_vector, open_tiny, save_tiny, without_stops
from tests.contract import parity
from tests.contract.oracle import in_scope, textbook
from tests.contract.parity import stream_norms

from persona_steering.backends.base import Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Ablate, Add, Ceiling, Floor, Intervention, Recipe, Scope, Set

# The engine sorts a batch, longest row first; given in that order, its rows are in ours.
PROMPTS = tuple(sorted(parity.PROMPTS, key=len, reverse=True))
ANSWERS = tuple(sorted(parity.ANSWERS, key=len, reverse=True))
LAYER = 1
TOKENS = 9
SCOPES = ("response", "prompt", "all", "tokens[3:20]", "tokens[0:1]", "response[0:1]", "response[2:5]", "response[4:]")


@dataclass
class Recorder:
    """A layer's stream before and after steering, one tensor `[rows, tokens, hidden]` per forward."""

    before: list[torch.Tensor] = field(default_factory=list)
    after: list[torch.Tensor] = field(default_factory=list)


@contextmanager
def recording(backend: TransformersBackend, layer: int = LAYER) -> Iterator[Recorder]:
    """The engine's hook runs after one set earlier on the same block, and before the next block's own."""
    found = Recorder()
    blocks = backend.loaded.layers.blocks

    def before(module: object, args: object, output: Any) -> None:
        found.before.append((output if isinstance(output, torch.Tensor) else output[0]).clone())

    def after(module: object, args: Any, kwargs: Any) -> None:
        found.after.append((args[0] if args else kwargs["hidden_states"]).clone())

    handles = [
        blocks[layer].register_forward_hook(before),
        blocks[layer + 1].register_forward_pre_hook(after, with_kwargs=True),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def row_tokens(found: Recorder, lengths: list[int], row: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(position, before, after) of a row's every token; padding has negative positions."""
    tokens = []
    for step, (before, after) in enumerate(zip(found.before, found.after, strict=True)):
        width = before.shape[1]
        # the first forward holds the prompts, padded on the left; each other one the next token of every row
        first = lengths[row] - width if step == 0 else lengths[row] + step - 1
        for t in range(width):
            tokens.append((first + t, before[row, t].numpy(), after[row, t].numpy()))
    return tokens


def operations(backend: TransformersBackend, scope: Scope) -> dict[str, Intervention]:
    size = stream_norms(backend)
    vector = make_vector(backend.info.identity, seed=5, norms=size)
    t = size[LAYER]
    return {
        "add": Add(vector=vector, values={LAYER: 0.5}, scope=scope),
        "ablate": Ablate.at(vector, [LAYER], scope=scope),
        "set": Set(vector=vector, values={LAYER: 0.3 * t}, scope=scope),
        "floor": Floor(vector=vector, values={LAYER: 0.05 * t}, scope=scope),
        "ceiling": Ceiling(vector=vector, values={LAYER: -0.05 * t}, scope=scope),
    }


def check_rows(found: Recorder, recipes: list[Recipe], lengths: list[int]) -> dict[str, int]:
    """Asserts the promise for every token of every row; counts what was seen."""
    seen = {"touched": 0, "changed": 0, "untouched": 0, "padding": 0}
    for row, recipe in enumerate(recipes):
        (item,) = recipe.interventions
        unit = item.vector.unit(LAYER).astype(np.float64)
        for position, before, after in row_tokens(found, lengths, row):
            if position < 0 or not in_scope(str(item.scope), lengths[row], position, False):
                seen["padding" if position < 0 else "untouched"] += 1
                assert np.array_equal(before, after)
                continue
            seen["touched"] += 1
            scale = float(np.abs(before).max())
            np.testing.assert_allclose(after, textbook(item, LAYER, before.astype(np.float64)), atol=2e-6 * scale)
            projection, value = float(after.astype(np.float64) @ unit), float(item.values[LAYER])
            tolerance = 2e-5 * float(np.linalg.norm(before))
            if item.op in ("set", "ablate"):
                assert abs(projection - value) < tolerance
            if item.op == "floor":
                assert projection > value - tolerance
            if item.op == "ceiling":
                assert projection < value + tolerance
            seen["changed"] += not np.array_equal(before, after)
    return seen


@pytest.mark.parametrize("op", ["add", "ablate", "set", "floor", "ceiling"])
def test_it_reaches_its_value_at_every_touched_token_and_touches_no_other(
    backend: TransformersBackend, op: str
) -> None:
    recipes = [Recipe((operations(backend, Scope.parse(scope))[op],)) for scope in SCOPES[: len(PROMPTS)]]
    check(backend, recipes)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_each_scope_holds_under_left_padding_and_the_cache(
    request: pytest.FixtureRequest, family: str, scope: str
) -> None:
    backend = request.getfixturevalue(family)
    seen = check(backend, [Recipe((item,)) for item in operations(backend, Scope.parse(scope)).values()])
    assert seen["untouched"] or scope == "all"


def check(backend: TransformersBackend, recipes: list[Recipe]) -> dict[str, int]:
    jobs = [
        Request(conversation(prompt), recipe, Sampling(temperature=0, max_new_tokens=TOKENS))
        for prompt, recipe in zip(PROMPTS, recipes, strict=True)
    ]
    lengths = [len(backend.loaded.encoder.encode(job.messages)) for job in jobs]
    with recording(backend) as found:
        backend.generate(jobs)
    assert [before.shape[1] for before in found.before] == [max(lengths)] + [1] * (TOKENS - 1)
    seen = check_rows(found, recipes, lengths)
    assert seen["touched"] and seen["changed"] and seen["padding"]
    return seen


@pytest.mark.parametrize("op", ["add", "ablate", "set", "floor", "ceiling"])
def test_teacher_forcing_touches_the_same_tokens_as_generation(llama: TransformersBackend, op: str) -> None:
    recipes = [Recipe((operations(llama, Scope.parse(scope))[op],)) for scope in SCOPES[: len(PROMPTS)]]
    items = [Text(conversation(p), a, r) for p, a, r in zip(PROMPTS, ANSWERS, recipes, strict=True)]
    encoder = llama.loaded.encoder
    prompts = [len(encoder.encode(item.messages)) for item in items]
    whole = [n + len(encoder.encode_response(item.response)) for n, item in zip(prompts, items, strict=True)]
    with recording(llama) as found:
        llama.capture(items)
    ((before,), (after,)) = found.before, found.after
    for row, recipe in enumerate(recipes):
        for t in range(before.shape[1]):
            position = t if t < whole[row] else -1  # given texts are padded on the right
            touched = position >= 0 and in_scope(str(recipe.interventions[0].scope), prompts[row], position, False)
            expected = before[row, t].double().numpy()
            if touched:
                expected = textbook(recipe.interventions[0], LAYER, expected)
            np.testing.assert_allclose(after[row, t].numpy(), expected, rtol=0, atol=1e-4)


def test_answers_that_share_a_prompt_are_captured_as_each_is_alone(llama: TransformersBackend) -> None:
    recipes = [
        Recipe(),
        Recipe((operations(llama, Scope("all"))["add"],)),
        Recipe((operations(llama, Scope())["floor"],)),
    ]
    items = [
        Text(conversation(prompt), answer, recipe) for prompt in PROMPTS[:2] for recipe in recipes for answer in ANSWERS
    ]
    for item, shared in zip(items, llama.capture(items), strict=True):
        (alone,) = llama.capture([item])
        assert shared.tokens == alone.tokens
        for layer in alone.mean:
            for pooled in ("mean", "prompt_mean", "prompt_last"):
                found, expected = getattr(shared, pooled)[layer], getattr(alone, pooled)[layer]
                np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
            assert shared.norms[layer] == pytest.approx(alone.norms[layer], rel=1e-5)


def test_a_cap_that_never_acts_leaves_the_bits_alone_and_counts_nothing(llama: TransformersBackend) -> None:
    vector = make_vector(llama.info.identity)
    idle = Recipe((Floor(vector=vector, values={LAYER: -1e6}), Ceiling(vector=vector, values={LAYER: 1e6})))
    jobs = [
        Request(conversation(PROMPTS[0]), recipe, Sampling(max_new_tokens=6, seed=3), capture=(LAYER, 3))
        for recipe in (idle, Recipe())
    ]
    capped, plain = (llama.generate([job])[0] for job in jobs)
    assert capped.token_ids == plain.token_ids and capped.caps_engaged == 0
    assert capped.activations is not None and plain.activations is not None
    for layer in (LAYER, 3):
        assert np.array_equal(capped.activations.mean[layer], plain.activations.mean[layer])


def test_caps_engaged_counts_the_touched_tokens_at_which_a_cap_acted(llama: TransformersBackend) -> None:
    vector = make_vector(llama.info.identity)
    always = Recipe((Floor(vector=vector, values={1: 1e4, 2: 1e4}, scope=Scope("all")),))
    short = Request(conversation(PROMPTS[0]), always, Sampling(temperature=0, max_new_tokens=2))
    long = Request(conversation(PROMPTS[1]), Recipe(), Sampling(temperature=0, max_new_tokens=12))
    (alone,) = llama.generate([short])
    assert alone.caps_engaged == 2 * (alone.prompt_tokens + 1)
    # a row that has ended goes on as padding while its neighbours write
    assert llama.generate([short, long, long])[0].caps_engaged == alone.caps_engaged


def test_a_floor_on_an_axis_is_a_ceiling_on_the_negated_axis(llama: TransformersBackend) -> None:
    axis = make_vector(llama.info.identity, norms=stream_norms(llama))
    floor = Recipe((Floor(vector=axis, values={1: 3.0, 2: 2.0}),))
    ceiling = Recipe((Ceiling(vector=-axis, values={1: -3.0, 2: -2.0}),))
    items = [Text(conversation(PROMPTS[0]), ANSWERS[1], recipe) for recipe in (floor, ceiling)]
    first, second = llama.capture(items)
    for layer in range(4):
        assert np.array_equal(first.mean[layer], second.mean[layer])


def test_a_rendered_prompt_is_the_prompt_of_the_messages_it_was_made_of(llama: TransformersBackend) -> None:
    messages = conversation(PROMPTS[0], "Be brief.")
    rendered = llama.loaded.encoder.render(messages)
    texts = [Text(messages, ANSWERS[0]), Text((), ANSWERS[0], rendered=rendered)]
    given, made = llama.capture(texts)
    for layer in range(4):
        assert np.array_equal(given.mean[layer], made.mean[layer])
        assert np.array_equal(given.prompt_last[layer], made.prompt_last[layer])
    assert np.array_equal(*(scores.logprobs for scores in llama.score(texts)))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> TransformersBackend:
    """A model whose vocabulary has thinking marks."""
    folder = tmp_path_factory.mktemp("thinker")
    return without_stops(open_tiny(save_tiny("llama", folder, tokenizer=make_tokenizer(thinking=True))))


def test_the_thinking_scope_touches_thoughts_of_the_response_only(thinker: TransformersBackend) -> None:
    assert "thinking" in thinker.capabilities.scopes
    vector = make_vector(thinker.info.identity, norms=stream_norms(thinker))
    item = Set(vector=vector, values={LAYER: 5.0}, scope=Scope("thinking"))
    texts = ["x<think>open", "<think>ab</think>cd", "no thought", "<think></think>"]
    items = [Text(conversation(PROMPTS[i]), text, Recipe((item,))) for i, text in enumerate(texts)]
    expected = [[1, 2, 3, 4, 5], [0, 1, 2, 3], [], [0, 1]]
    encoder = thinker.loaded.encoder
    with recording(thinker) as found:
        captured = thinker.capture(items)
    ((before,), (after,)) = found.before, found.after
    for row, (text, thoughts) in enumerate(zip(items, expected, strict=True)):
        answer = len(encoder.encode_response(text.response))
        changed = (before[row] != after[row]).any(-1).nonzero().flatten().tolist()
        assert changed == [len(encoder.encode(text.messages)) + i for i in thoughts]
        assert captured[row].tokens == answer - len(thoughts)
    scored = thinker.score(items)
    for text, row in zip(items, scored, strict=True):
        (plain,) = thinker.score([Text(text.messages, text.response)])
        same = np.isclose(plain.logprobs, row.logprobs, atol=1e-4)
        assert same.all() == (text.response == "no thought")


def test_thoughts_are_steered_and_not_captured_while_writing(thinker: TransformersBackend) -> None:
    vector = make_vector(thinker.info.identity, norms=stream_norms(thinker))
    recipe = Recipe((Set(vector=vector, values={LAYER: 5.0}, scope=Scope("thinking")),))
    # a prompt that opens a thought: the whole answer continues it
    opened, closed = conversation("why <think>"), conversation("why <think> so </think>")
    jobs = [
        Request(messages, recipe, Sampling(max_new_tokens=5, seed=1), capture=(LAYER,)) for messages in (opened, closed)
    ]
    with recording(thinker) as found:
        inside, outside = thinker.generate(jobs)
    assert inside.activations is None
    assert outside.activations is not None and outside.activations.tokens == 4
    assert torch.equal(found.before[0], found.after[0])  # the prompt's thoughts are not the response's
    for before, after in zip(found.before[1:], found.after[1:], strict=True):
        # the longer prompt, whose thought is closed, is the first row
        assert [torch.equal(before[row], after[row]) for row in (0, 1)] == [True, False]
