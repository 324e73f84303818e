"""What steering costs while a batch is decoded, and before the first token of a chat.

    python benchmarks/steering.py
    python benchmarks/steering.py --random-weights llama-7b --device cuda --dtype bfloat16 --tokens 128

Directions are random, as long as a real recipe's; every steered row is checked to have other activations than the
plain one, so that no figure is that of steering which did nothing.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from timing import Figure, chats, describe, model_parser, open_backend, ratio, report, synchronize, take_turns, timed

from persona_steering.backends.base import Completion, Request, Sampling, Text
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Ablate, Add, Floor, Recipe
from persona_steering.vectors import SteeringVector, VectorMetadata

BAND = 8  # steered layers
DOSE = 0.1  # ‖v‖ / ‖h‖ at each of them
STREAM_TURNS = 4  # turns of the first-token figure for each of the others: they are short, and noisy


def main(arguments: Sequence[str] | None = None) -> None:
    options = model_parser(__doc__).parse_args(arguments)
    with open_backend(options) as backend:
        recipes = Recipes(backend)
        figures = [
            *decoding(backend, recipes, batch=options.batch, tokens=options.tokens, repeats=options.repeats),
            first_token(backend, recipes, tokens=options.tokens, repeats=STREAM_TURNS * options.repeats),
        ]
        report("steering", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


class Recipes:
    """Recipes of random directions for one model, scaled by the norms of its residual stream."""

    def __init__(self, backend: TransformersBackend) -> None:
        (message,) = chats(1)
        self._identity = backend.info.identity
        count = self._identity.num_layers
        if count < BAND:
            raise SystemExit(f"the model has {count} layers; {BAND} are to be steered")
        self._norms = backend.capture([Text(message, message[-1].content)])[0].norms
        self.band = tuple(range((count - BAND) // 2, (count + BAND) // 2))

    def vector(self, seed: int) -> SteeringVector:
        rng = np.random.default_rng(seed)
        directions = {}
        for layer, norm in self._norms.items():
            raw = rng.normal(size=self._identity.hidden_size)
            directions[layer] = (DOSE * norm * raw / np.linalg.norm(raw)).astype(np.float32)
        metadata = VectorMetadata(
            name=f"random-{seed}",
            kind="persona",
            model=self._identity,
            sign="+ is random",
            source="benchmark",
            reference_norms=self._norms,
        )
        return SteeringVector(directions, metadata)

    def add(self) -> Recipe:
        """Eight layers of add."""
        return Recipe((Add(vector=self.vector(0), values=dict.fromkeys(self.band, 1.0)),))

    def mixed(self, row: int, *, first: int | None = None) -> Recipe:
        """Add, floor and ablate at eight layers, by directions and numbers of this row's own."""
        start = self.band[0] if first is None else first
        layers = range(start, start + BAND)
        add, axis, removed = (self.vector(1 + 3 * row + k) for k in range(3))
        return Recipe(
            (
                Add(vector=add, values=dict.fromkeys(layers, 1.0 + row / 64)),
                Floor(vector=axis, values={layer: 0.002 * row * self._norms[layer] for layer in layers}),
                Ablate.at(removed, layers),
            )
        )

    def scattered(self, row: int) -> Recipe:
        """`mixed` at eight layers of this row's own, so that most layers of the model are steered for some row."""
        return self.mixed(row, first=row % (self._identity.num_layers - BAND + 1))


class Clock:
    """Handed to the engine as its `cancelled`, it notes the time before the first forward and after every token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self) -> bool:
        self.times.append(time.perf_counter())
        return False

    @property
    def decoding(self) -> float:
        """Seconds from the first token to the last."""
        return self.times[-1] - self.times[1]


Turn = tuple[float, float]  # seconds of decoding, and of the whole call


def decoding(backend: TransformersBackend, recipes: Recipes, *, batch: int, tokens: int, repeats: int) -> list[Figure]:
    """Throughput of one batch under each kind of recipe, over that of the same batch unsteered."""
    same = recipes.add()
    requests = {
        "plain": ask([Recipe()] * batch, tokens),
        "add": ask([same] * batch, tokens),
        "mixed": ask([recipes.mixed(row) for row in range(batch)], tokens),
        "scattered": ask([recipes.scattered(row) for row in range(batch)], tokens),
    }

    def side(own: Sequence[Request]) -> Callable[[], Turn]:
        def run() -> Turn:
            clock = Clock()
            whole, done = timed(backend.loaded.device, lambda: backend.generate(own, cancelled=clock))
            if any(len(one.token_ids) != tokens for one in done):
                raise SystemExit("an answer ended early: the sides cannot be compared")
            return clock.decoding, whole

        return run

    effects = {name: effect(backend, requests["plain"], requests[name]) for name in ("add", "mixed", "scattered")}
    found = take_turns({name: side(own) for name, own in requests.items()}, repeats=repeats)
    figures = []
    for name, title, target in (
        ("add", "8 layers of add", 0.97),
        ("mixed", "add + floor + ablate, a recipe per row", 0.90),
        ("scattered", "the same, at layers of each row's own", None),
    ):
        for part, label, bound, written in (
            (0, "decoding", target, batch * (tokens - 1)),
            (1, "whole call", None, batch * tokens),
        ):
            plain, steered = ([turn[part] for turn in found[key]] for key in ("plain", name))
            details = {
                "smallest_change": effects[name],
                "plain_tokens_per_s": written / statistics.median(plain),
                "steered_tokens_per_s": written / statistics.median(steered),
            }
            figures.append(ratio(f"{label}: {title} / unsteered", plain, steered, target=bound, details=details))
    return figures


def ask(recipes: Sequence[Recipe], tokens: int) -> list[Request]:
    """One request per recipe, each with a chat of its own."""
    sampling = Sampling(temperature=0, max_new_tokens=tokens)
    return [
        Request(messages, recipe=recipe, sampling=sampling)
        for messages, recipe in zip(chats(len(recipes)), recipes, strict=True)
    ]


def effect(backend: TransformersBackend, plain: Sequence[Request], steered: Sequence[Request]) -> float:
    """The smallest change of any row's activation at the last layer, over its norm. Stops when a row has none."""
    last = backend.info.identity.num_layers - 1
    changes = []
    for pair in zip(*(short_answers(backend, side, last) for side in (plain, steered)), strict=True):
        a, b = (done.activations.mean[last] for done in pair if done.activations is not None)
        changes.append(float(np.linalg.norm(a - b) / np.linalg.norm(a)))
    if min(changes) < 1e-3:
        raise SystemExit(f"steering left row {changes.index(min(changes))} as it was: nothing would be measured")
    return min(changes)


def short_answers(backend: TransformersBackend, requests: Sequence[Request], layer: int) -> list[Completion]:
    """Answers of two tokens, of which the first is captured at `layer`."""
    sampling = Sampling(temperature=0, max_new_tokens=2)
    return backend.generate([replace(one, sampling=sampling, capture=(layer,)) for one in requests])


def first_token(backend: TransformersBackend, recipes: Recipes, *, tokens: int, repeats: int) -> Figure:
    """Time from asking to the first piece of text of a streamed chat, steered over unsteered."""
    (message,) = chats(1)
    device = backend.loaded.device

    def side(recipe: Recipe) -> Callable[[], float]:
        request = Request(message, recipe=recipe, sampling=Sampling(temperature=0, max_new_tokens=tokens))

        def run() -> float:
            pieces = backend.stream(request)
            synchronize(device)
            start = time.perf_counter()
            next(pieces)
            seconds = time.perf_counter() - start
            pieces.close()  # type: ignore[attr-defined]
            return seconds

        return run

    found = take_turns({"plain": side(Recipe()), "steered": side(recipes.add())}, repeats=repeats, warmups=2)
    medians = {f"{name}_ms": 1000 * statistics.median(turns) for name, turns in found.items()}
    return ratio(
        "first token: steered chat / unsteered",
        found["steered"],
        found["plain"],
        target=1.05,
        at_most=True,
        details=medians,
    )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
