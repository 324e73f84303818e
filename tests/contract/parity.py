"""What every backend on transformers must hold, whatever the model. Each function asserts one promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tests.backends.tiny import make_vector
from tests.contract.oracle import naive_forward

from persona_steering.backends.base import Arrival, Completion, Piece, Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Ablate, Add, Ceiling, Floor, Recipe, Scope, Set

LOGPROB = 1e-4  # absolute, nats
RELATIVE = 2e-5  # of the largest value of an activation vector

PROMPTS = (
    "hello",
    "tell me a long story about the sea, the stars and the wind",
    "who are you and why",
    "name three colours",
    "what is the way home from here?",
)
ANSWERS = (" the sea", " a blue house stands by a river, far off", " well", " I am what I am", " go on, then")


def stream_norms(backend: TransformersBackend) -> dict[int, float]:
    """The mean token norm of the unsteered residual stream, per layer: what a dose is measured by."""
    (found,) = backend.capture([Text(conversation(PROMPTS[1]), ANSWERS[1])])
    return found.norms


def mixed_recipes(backend: TransformersBackend) -> list[Recipe]:
    """One recipe per prompt: none, a sum, caps, and every operation and scope at once."""
    identity, size = backend.info.identity, stream_norms(backend)
    sage = make_vector(identity, seed=1, norms=size)
    wizard = make_vector(identity, name="wizard", seed=2, norms=size)
    low, high = identity.num_layers // 3, identity.num_layers // 2
    return [
        Recipe(),
        Recipe((Add(vector=sage, values={low: 0.5, high: 0.4}), Add(vector=wizard, values={low: -0.3}))),
        Recipe((Floor(vector=sage, values={low: 0.4 * size[low]}, scope=Scope("all")), Ablate.at(wizard, [low, high]))),
        Recipe((Set(vector=wizard, values={high: -0.6 * size[high]}), Ceiling(vector=sage, values={0: 0.0}))),
        Recipe(
            (
                Add(vector=sage, values={0: 0.3, high: 0.3}, scope=Scope("prompt")),
                Add(vector=wizard, values={high: 0.6}, scope=Scope("response", 2, 5)),
                Floor(vector=wizard, values={high: 0.2 * size[high]}, scope=Scope("tokens", 3, None)),
                Set(vector=sage, values={low: 0.0}, scope=Scope("all")),
            )
        ),
    ]


def requests(
    recipes: Sequence[Recipe], *, capture: Sequence[int], temperature: float, tokens: int | Sequence[int] = 8
) -> list[Request]:
    """One request per prompt."""
    lengths = [tokens] * len(recipes) if isinstance(tokens, int) else tokens
    return [
        Request(
            conversation(prompt),
            recipe=recipe,
            sampling=Sampling(temperature=temperature, max_new_tokens=length, seed=i),
            capture=tuple(capture),
        )
        for i, (prompt, recipe, length) in enumerate(zip(PROMPTS, recipes, lengths, strict=True))
    ]


def texts(recipes: Sequence[Recipe]) -> list[Text]:
    """One given answer per prompt."""
    return [Text(conversation(p), a, r) for p, a, r in zip(PROMPTS, ANSWERS, recipes, strict=True)]


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Within RELATIVE of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=RELATIVE * float(np.abs(expected).max()))


def assert_same_completion(found: Completion, expected: Completion) -> None:
    """The same text and counts, and activations within tolerance."""
    assert (found.text, found.token_ids, found.finish_reason) == (
        expected.text,
        expected.token_ids,
        expected.finish_reason,
    )
    assert (found.caps_engaged, found.recipe_hash) == (expected.caps_engaged, expected.recipe_hash)
    if found.activations is None or expected.activations is None:
        assert found.activations is expected.activations
        return
    assert found.activations.tokens == expected.activations.tokens
    for layer, mean in expected.activations.mean.items():
        assert_close(found.activations.mean[layer], mean)
        assert abs(found.activations.norms[layer] / expected.activations.norms[layer] - 1) < 1e-5


def fed_back(row: Completion) -> list[int]:
    """The tokens whose activations were computed: all, but for the last one of an answer that was cut off."""
    return list(row.token_ids if row.finish_reason == "stop" else row.token_ids[:-1])


def pieces_of(backend: TransformersBackend, *jobs: Request) -> dict[int, list[Piece]]:
    """What a live batch tells of each request; one more joins after every second token."""
    batch, found = backend.live(), dict[int, list[Piece]]()
    waiting = [Arrival(key, job) for key, job in enumerate(jobs)]
    while waiting or len(batch):
        if waiting:
            batch.admit([waiting.pop(0)])
        for piece in [*batch.advance(), *batch.advance()]:
            found.setdefault(piece.key, []).append(piece)
    return found


def completion_of(pieces: Sequence[Piece]) -> Completion:
    """The completion that the last piece brings."""
    last = pieces[-1].completion
    assert last is not None
    return last


def check_batch_equals_single(backend: TransformersBackend, *, temperature: float) -> None:
    """Mixed recipes in one batch, answers of several lengths: every row as if it were alone."""
    layers = range(backend.info.identity.num_layers)
    jobs = requests(mixed_recipes(backend), capture=layers, temperature=temperature, tokens=[9, 5, 12, 2, 7])
    together = backend.generate(jobs)
    for job, row in zip(jobs, together, strict=True):
        assert_same_completion(row, backend.generate([job])[0])
    assert any(row.caps_engaged for row in together)
    assert together[0].caps_engaged == 0


def check_rows_that_end_early_leave_the_others_alone(backend: TransformersBackend) -> None:
    """Rows at the head of the batch (the longest prompts) end at stop strings of their own and are cut out of it."""
    layers = tuple(range(backend.info.identity.num_layers))
    recipes = mixed_recipes(backend)
    recipes[3], recipes[4] = recipes[4], recipes[3]  # windows of positions go with a row that stays
    jobs = requests(recipes, capture=layers, temperature=0.9, tokens=14)
    free = backend.generate(jobs)
    for row, length in ((1, 2), (4, 4), (2, 6)):
        # a random model also writes special tokens, which have no text
        prefixes = (backend.loaded.encoder.decode(free[row].token_ids[:n]) for n in range(length, 13))
        stop = next(filter(None, prefixes))
        jobs[row] = replace(jobs[row], sampling=jobs[row].sampling.model_copy(update={"stop": (stop,)}))
    together = backend.generate(jobs)
    lengths = [len(row.token_ids) for row in together]
    assert max(lengths[1], lengths[4], lengths[2]) < 14 and lengths[0] == lengths[3] == 14
    for job, row in zip(jobs, together, strict=True):
        assert_same_completion(row, backend.generate([job])[0])


def check_cache_equals_no_cache(backend: TransformersBackend) -> None:
    """Greedy tokens, activations and cap counts of cached decoding against one full forward of the oracle."""
    layers = tuple(range(backend.info.identity.num_layers))
    jobs = requests(mixed_recipes(backend), capture=layers, temperature=0, tokens=10)
    for job, row in zip(jobs, backend.generate(jobs), strict=True):
        prompt = backend.loaded.encoder.encode(job.messages)
        fed = [*prompt, *fed_back(row)]
        oracle = naive_forward(backend, fed, job.recipe, prompt_length=len(prompt))
        for step, token in enumerate(row.token_ids):
            logits = oracle.logits[len(prompt) - 1 + step]
            # not argmax: two tokens may be equal up to rounding
            assert float(logits.max() - logits[token]) < 1e-3
        assert row.activations is not None and row.activations.tokens == len(fed_back(row))
        for layer in layers:
            outputs = oracle.outputs[layer][len(prompt) :]
            assert_close(row.activations.mean[layer], outputs.mean(0))
            assert abs(row.activations.norms[layer] / np.linalg.norm(outputs, axis=1).mean() - 1) < 1e-5


def check_score_equals_oracle(backend: TransformersBackend) -> None:
    """Log-probabilities: batch = single = oracle, for texts that do and do not share a prompt."""
    recipes = mixed_recipes(backend)
    items = texts(recipes)
    items += [Text(item.messages, ANSWERS[0], item.recipe) for item in items]  # shared prompt and recipe
    items += [Text(items[1].messages, ANSWERS[1], recipes[4])]  # shared prompt, steered otherwise
    together = backend.score(items)
    for item, row in zip(items, together, strict=True):
        (alone,) = backend.score([item])
        prompt = backend.loaded.encoder.encode(item.messages)
        ids = [*prompt, *row.token_ids]
        oracle = naive_forward(backend, ids, item.recipe, prompt_length=len(prompt))
        assert row.token_ids == alone.token_ids
        np.testing.assert_allclose(row.logprobs, alone.logprobs, rtol=0, atol=LOGPROB)
        np.testing.assert_allclose(row.logprobs, oracle.logprobs(ids, len(prompt)), rtol=0, atol=LOGPROB)


def check_capture_equals_oracle(backend: TransformersBackend) -> None:
    """Teacher-forced activations: batch = single = oracle."""
    layers = tuple(range(backend.info.identity.num_layers))
    items = texts(mixed_recipes(backend))
    for item, row in zip(items, backend.capture(items), strict=True):
        (alone,) = backend.capture([item])
        prompt = backend.loaded.encoder.encode(item.messages)
        ids = [*prompt, *backend.loaded.encoder.encode_response(item.response)]
        oracle = naive_forward(backend, ids, item.recipe, prompt_length=len(prompt))
        assert row.tokens == alone.tokens == len(ids) - len(prompt)
        for layer in layers:
            outputs = oracle.outputs[layer]
            assert_close(row.mean[layer], alone.mean[layer])
            assert_close(row.mean[layer], outputs[len(prompt) :].mean(0))
            assert_close(row.prompt_mean[layer], outputs[: len(prompt)].mean(0))
            assert_close(row.prompt_last[layer], outputs[len(prompt) - 1])
            assert abs(row.norms[layer] / np.linalg.norm(outputs[len(prompt) :], axis=1).mean() - 1) < 1e-5


def check_unsteered_row_is_untouched(
    backend: TransformersBackend, *, exact: bool = True, temperatures: Sequence[float] = (0.0, 0.8)
) -> None:
    """Rows without a recipe, among steered ones and among their like: the same bits.

    `exact` False is for mixtures of experts, whose products take the tokens of all rows at once.
    """
    layers = range(backend.info.identity.num_layers)
    steered = mixed_recipes(backend)
    steered[3] = Recipe()
    plain = [Recipe()] * len(steered)
    for temperature in temperatures:
        mixed = backend.generate(requests(steered, capture=layers, temperature=temperature))
        among_like = backend.generate(requests(plain, capture=layers, temperature=temperature))
        assert any(a.token_ids != b.token_ids for a, b in zip(mixed, among_like, strict=True)), "nothing steered"
        for row in (0, 3):
            if not exact:
                assert_same_completion(mixed[row], among_like[row])
                continue
            found, expected = mixed[row].activations, among_like[row].activations
            assert found is not None and expected is not None
            assert mixed[row].token_ids == among_like[row].token_ids
            for layer in layers:
                assert np.array_equal(found.mean[layer], expected.mean[layer])
                assert found.norms[layer] == expected.norms[layer]
    found_scores, expected_scores = backend.score(texts(steered)), backend.score(texts(plain))
    for row in (0, 3):
        if exact:
            assert np.array_equal(found_scores[row].logprobs, expected_scores[row].logprobs)


def check_generated_capture_equals_forced(backend: TransformersBackend) -> None:
    """Activations summed while writing = those of the fed-back tokens, teacher-forced in one forward."""
    from persona_steering.backends.transformers.forcing import EncodedText, capture_batch

    layers = tuple(range(backend.info.identity.num_layers))
    jobs = requests(mixed_recipes(backend), capture=layers, temperature=0.7, tokens=10)
    rows = backend.generate(jobs)
    encoded = [
        EncodedText(
            Text(job.messages, row.text, job.recipe),
            backend.loaded.encoder.encode(job.messages),
            fed_back(row),
        )
        for job, row in zip(jobs, rows, strict=True)
    ]
    for row, forced in zip(rows, capture_batch(backend._runner, encoded, layers), strict=True):
        assert row.activations is not None and row.activations.tokens == forced.tokens
        for layer in layers:
            assert_close(row.activations.mean[layer], forced.mean[layer])


def count_hooks(backend: TransformersBackend) -> int:
    """Forward hooks on every module of the model."""
    modules: list[torch.nn.Module] = list(backend.loaded.model.modules())
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
