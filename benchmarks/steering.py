"""What steering costs while a batch is decoded, and before the first token of a chat.

    python benchmarks/steering.py
    python benchmarks/steering.py --random-weights llama-7b --device cuda --dtype bfloat16 --tokens 128

Directions are random, as long as a real recipe's; every steered side is checked to write other tokens than the
plain one, so that no figure is that of steering which did nothing.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from timing import Figure, chats, describe, model_parser, open_backend, ratio, report, synchronize, take_turns, timed

from persona_steering.backends.base import Completion, Request, Sampling, Text
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.interventions import Ablate, Add, Floor, Recipe
from persona_steering.vectors import SteeringVector, VectorMetadata

BAND = 8  # steered layers
DOSE = 0.05  # ‖v‖ / ‖h‖ at each of them
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
            name=f"random-{seed}", kind="persona", model=self._identity, sign="+ is random", source="benchmark"
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


def decoding(backend: TransformersBackend, recipes: Recipes, *, batch: int, tokens: int, repeats: int) -> list[Figure]:
    """Throughput of one batch under each kind of recipe, over that of the same batch unsteered."""
    same = recipes.add()
    rows: dict[str, list[Recipe]] = {
        "plain": [Recipe()] * batch,
        "add": [same] * batch,
        "mixed": [recipes.mixed(row) for row in range(batch)],
        "scattered": [recipes.scattered(row) for row in range(batch)],
    }
    messages = chats(batch)

    def side(own: Sequence[Recipe]) -> Callable[[], tuple[float, float, list[Completion]]]:
        requests = [
            Request(message, recipe=recipe, sampling=Sampling(temperature=0, max_new_tokens=tokens))
            for message, recipe in zip(messages, own, strict=True)
        ]

        def run() -> tuple[float, float, list[Completion]]:
            clock = Clock()
            whole, done = timed(backend.loaded.device, lambda: backend.generate(requests, cancelled=clock))
            return clock.decoding, whole, done

        return run

    found = take_turns({name: side(own) for name, own in rows.items()}, repeats=repeats)
    plain = found["plain"]
    figures = []
    for name, title, target in (
        ("add", "8 layers of add", 0.97),
        ("mixed", "add + floor + ablate, a recipe per row", 0.90),
        ("scattered", "the same, at layers of each row's own", None),
    ):
        steered = found[name]
        details = {
            **check_steered(plain[0][2], steered[0][2]),
            "plain_tokens_per_s": batch * (tokens - 1) / statistics.median(turn[0] for turn in plain),
            "steered_tokens_per_s": batch * (tokens - 1) / statistics.median(turn[0] for turn in steered),
        }
        for part, label, bound in ((0, "decoding", target), (1, "whole call", None)):
            above, below = [turn[part] for turn in plain], [turn[part] for turn in steered]
            figures.append(ratio(f"{label}: {title} / unsteered", above, below, target=bound, details=details))
    return figures


def check_steered(plain: Sequence[Completion], steered: Sequence[Completion]) -> dict[str, object]:
    """How many rows write other tokens when steered. Stops when none does, or one side wrote fewer tokens."""
    if [len(done.token_ids) for done in plain] != [len(done.token_ids) for done in steered]:
        raise SystemExit("the two sides did not write the same number of tokens")
    changed = sum(a.token_ids != b.token_ids for a, b in zip(plain, steered, strict=True))
    if not changed:
        raise SystemExit("steering changed no answer: nothing was measured")
    return {"rows_changed": changed, "caps_engaged": sum(done.caps_engaged for done in steered)}


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
