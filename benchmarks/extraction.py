"""What activations cost: while answers are written, for given texts, and from prompts to a vector.

    python benchmarks/extraction.py
    python benchmarks/extraction.py --random-weights llama-7b --device cuda --dtype bfloat16 --tokens 128

The published way ("Persona Vectors", arXiv 2507.21509) is written here from its description: one text at a time, a
full forward over prompt and answer with logits and all hidden states, means over positions for every layer kept per
text, and at last the mean over texts. It gets frozen weights and no_grad, which it does not ask for.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timing import (
    Figure,
    chats,
    describe,
    model_parser,
    open_backend,
    peak_memory,
    ratio,
    report,
    shipped_texts,
    take_turns,
    timed,
)

from persona_steering.backends.base import Activations, Completion, Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.extraction.contrast import ExtractionSettings, extract_baseline, extract_persona, pair_up
from persona_steering.extraction.run import Run, answer_seed
from persona_steering.personas import load_archetype, load_questions

GIVEN = 2  # batches of given texts
ROLLOUTS = 10  # answers to one prompt in the published pipeline


def main(arguments: Sequence[str] | None = None) -> None:
    options = model_parser(__doc__).parse_args(arguments)
    batch, tokens, repeats = options.batch, options.tokens, options.repeats
    with open_backend(options) as backend:
        # memory first: what the other parts leave behind would hide it
        flat = memory(backend, batch=batch, tokens=tokens)
        figures = [
            writing(backend, batch=batch, tokens=tokens, repeats=repeats),
            given(backend, batch=batch, tokens=tokens, repeats=repeats, per_prompt=ROLLOUTS),
            given(backend, batch=batch, tokens=tokens, repeats=repeats, per_prompt=1),
            *flat,
            from_prompts(backend, batch=batch, tokens=tokens, repeats=repeats),
        ]
        report("extraction", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


def writing(backend: TransformersBackend, *, batch: int, tokens: int, repeats: int) -> Figure:
    """Throughput of writing answers with the capture of every layer, over that of writing the same answers."""
    layers = tuple(range(backend.info.identity.num_layers))

    def side(capture: tuple[int, ...]) -> Callable[[], tuple[float, list[Completion]]]:
        sampling = Sampling(temperature=0, max_new_tokens=tokens)
        requests = [Request(messages, sampling=sampling, capture=capture) for messages in chats(batch)]
        return lambda: timed(backend.loaded.device, lambda: backend.generate(requests))

    found = take_turns({"plain": side(()), "capture": side(layers)}, repeats=repeats)
    plain, capture = ([turn[0] for turn in found[name]] for name in ("plain", "capture"))
    pairs = zip(found["plain"][0][1], found["capture"][0][1], strict=True)
    if not all(len(a.token_ids) == len(b.token_ids) == tokens and b.activations for a, b in pairs):
        raise SystemExit("an answer is too short, or was not captured: nothing was measured")
    return ratio(
        "writing + capture of all layers / writing",
        plain,
        capture,
        target=0.95,
        details={
            "plain_tokens_per_s": batch * tokens / statistics.median(plain),
            "capture_tokens_per_s": batch * tokens / statistics.median(capture),
        },
    )


def given(backend: TransformersBackend, *, batch: int, tokens: int, repeats: int, per_prompt: int) -> Figure:
    """Texts per second of `capture` over those of the published way, with `per_prompt` answers to every prompt."""
    texts = answers(backend, GIVEN * batch, tokens, per_prompt=per_prompt)
    device = backend.loaded.device
    sized = TransformersBackend(backend.loaded)  # batches of the size that suits the device
    found = take_turns(
        {
            "published": lambda: timed(device, lambda: published_means(backend, texts)),
            "capture": lambda: timed(device, lambda: mean_over_texts(sized.capture(texts))),
        },
        repeats=repeats,
    )
    published, capture = ([turn[0] for turn in found[name]] for name in ("published", "capture"))
    return ratio(
        f"given texts, {per_prompt} a prompt: capture / the published way",
        published,
        capture,
        target=1.7 if device.type == "cpu" else 5.0,
        details={
            "texts": len(texts),
            "published_texts_per_s": len(texts) / statistics.median(published),
            "capture_texts_per_s": len(texts) / statistics.median(capture),
            "smallest_cosine": smallest_cosine(found["capture"][0][1], found["published"][0][1]),
        },
    )


def memory(backend: TransformersBackend, *, batch: int, tokens: int) -> list[Figure]:
    """Peak memory of `capture` with four times the texts, over that with the texts of `given`."""
    device = backend.loaded.device
    # the longest texts first, each four times in both: so batches are alike and only the number differs
    longest = sorted(answers(backend, GIVEN * batch, tokens), key=_characters, reverse=True)
    few, many = longest[: len(longest) // 4] * 4, longest * 4
    backend.capture(few)
    base = peak_memory(device, lambda: None)
    first, second = (peak_memory(device, partial(backend.capture, texts)) for texts in (few, many))
    published = peak_memory(device, lambda: published_means(backend, few))
    if base is None or first is None or second is None or published is None:
        return []
    one = backend.capture(few[:1])[0]
    return [
        Figure(
            f"peak memory of capture: {len(many)} texts / {len(few)} texts",
            second / first,
            target=1.05,
            at_most=True,
            details={
                "what": "device memory" if device.type == "cuda" else "resident memory",
                "before_mb": base / 2**20,
                "few_mb": first / 2**20,
                "many_mb": second / 2**20,
                "published_few_mb": published / 2**20,
                "result_mb_per_text": result_bytes(one) / 2**20,
            },
        )
    ]


def _characters(text: Text) -> int:
    return len(text.response) + sum(len(message.content) for message in text.messages)


@dataclass(frozen=True)
class Answering:
    """One side of a contrast: its phase and its system prompts."""

    phase: str
    system_prompts: tuple[str | None, ...]


def from_prompts(backend: TransformersBackend, *, batch: int, tokens: int, repeats: int) -> Figure:
    """A persona's raw vector: captured while its answers are written, against a second pass the published way."""
    persona, device = load_archetype("pirate"), backend.loaded.device
    settings = ExtractionSettings(
        questions=tuple(question.question for question in load_questions(max(2, batch // 3))),
        max_new_tokens=tokens,
        layers=tuple(range(backend.info.identity.num_layers)),
        filter=False,
    )
    sides = (
        Answering("persona", persona.system_prompts),
        Answering("baseline", (None,) * settings.prompts_per_question),
    )

    def one_pass() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            run = Run(Path(folder), {})
            baseline = extract_baseline(backend, settings, run=run)
            found = extract_persona(backend, persona, settings, run=run, baseline=baseline).vector
        return np.stack([found.directions[layer] for layer in settings.layers])

    def two_passes() -> np.ndarray:
        means: list[np.ndarray] = []
        for one in sides:
            requests = asked(one, settings)
            done = backend.generate(requests)
            texts = [Text(r.messages, c.text) for r, c in zip(requests, done, strict=True) if c.text.strip()]
            means.append(published_means(backend, texts))
        difference: np.ndarray = means[0] - means[1]
        return difference

    found = take_turns(
        {"published": lambda: timed(device, two_passes), "one_pass": lambda: timed(device, one_pass)},
        repeats=repeats,
    )
    published, ours = ([turn[0] for turn in found[name]] for name in ("published", "one_pass"))
    return ratio(
        "prompts to vector: one pass / write, then the published way",
        published,
        ours,
        details={
            "answers": sum(len(asked(one, settings)) for one in sides),
            "published_s": statistics.median(published),
            "one_pass_s": statistics.median(ours),
            "smallest_cosine": smallest_cosine(found["one_pass"][0][1], found["published"][0][1]),
        },
    )


def asked(one: Answering, settings: ExtractionSettings) -> list[Request]:
    """The requests of `extraction.contrast.answer`, without its capture."""
    return [
        Request(
            conversation(item.question, item.system_prompt),
            sampling=Sampling(
                temperature=settings.temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=answer_seed(settings.seed, one.phase, i),
            ),
        )
        for i, item in enumerate(pair_up(settings, one.system_prompts))
    ]


def answers(backend: TransformersBackend, count: int, tokens: int, *, per_prompt: int = 1) -> list[Text]:
    """Given answers of about `tokens / 2` to `tokens` tokens, cut from the texts that come with the package."""
    encoder = backend.loaded.encoder
    source = encoder.encode_response(" ".join(shipped_texts()))
    found = []
    prompts = chats(-(-count // per_prompt))
    for i in range(count):
        messages = prompts[i // per_prompt]
        length = tokens - i * 7 % (tokens // 2 + 1)
        start = i * 97 % (len(source) - length)
        found.append(Text(messages, encoder.decode(source[start : start + length])))
    return found


def published_means(backend: TransformersBackend, texts: Sequence[Text]) -> np.ndarray:
    """The mean response activation of every layer, `[layers, hidden]`, made the published way.

    Row 0 of its result (embeddings) is dropped; its last row is taken after the final norm.
    """
    model, encoder, device = backend.loaded.model, backend.loaded.encoder, backend.loaded.device
    tokenize = encoder.tokenizer
    kept: dict[str, list[list[torch.Tensor]]] = {"response": [], "prompt": [], "last": []}
    for text in texts:
        prompt = encoder.render(text.messages)
        length = len(tokenize(prompt, add_special_tokens=False)["input_ids"])
        joined = tokenize(prompt + text.response, add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            output = model(
                input_ids=joined["input_ids"].to(device),
                attention_mask=joined["attention_mask"].to(device),
                output_hidden_states=True,
            )
        kept["response"].append([states[0, length:].mean(0).cpu() for states in output.hidden_states])
        kept["prompt"].append([states[0, :length].mean(0).cpu() for states in output.hidden_states])
        kept["last"].append([states[0, length - 1].cpu() for states in output.hidden_states])
    means = {
        name: [torch.stack(layer).mean(0).float() for layer in zip(*rows, strict=True)] for name, rows in kept.items()
    }
    return torch.stack(means["response"][1:]).numpy()


def mean_over_texts(found: Sequence[Activations]) -> np.ndarray:
    """The mean of the texts' response means, `[layers, hidden]`."""
    return np.stack([np.mean([one.mean[layer] for one in found], 0) for layer in sorted(found[0].mean)])


def smallest_cosine(ours: np.ndarray, published: np.ndarray) -> float:
    """Between the rows of two `[layers, hidden]`; the last layer means something else the published way."""
    a, b = ours[:-1].astype(np.float64), published[:-1].astype(np.float64)
    return float(((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def result_bytes(one: Activations) -> int:
    """Host memory that the caller keeps for a text."""
    return sum(array.nbytes for part in (one.mean, one.prompt_mean, one.prompt_last) for array in part.values())


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
