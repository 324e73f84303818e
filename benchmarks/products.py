"""One token of every answer: linear layers that turn their products of few rows beside those that do not.

    python benchmarks/products.py

Both sides are the same weights in one process; what they write is compared as well.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from timing import Figure, describe, model_parser, open_backend, ratio, report, take_turns, timed
from torch import nn

from persona_steering.backends.base import Arrival, Message, Request, Sampling
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.backends.transformers.products import FewRowsLinear

ROWS = (1, 2, 8, 32)
QUESTION = "How was your day?"


def main(arguments: Sequence[str] | None = None) -> None:
    options = model_parser(__doc__).parse_args(arguments)
    with open_backend(options) as backend:
        figures = [beside(backend, rows, options.tokens, options.repeats) for rows in ROWS]
        report("products", figures, device=backend.loaded.device.type, options=options, about=describe(backend))


def beside(backend: TransformersBackend, rows: int, tokens: int, repeats: int) -> Figure:
    """Tokens per second while `rows` answers are written, turned over plain."""
    layers = [module for module in backend.loaded.model.modules() if isinstance(module, nn.Linear)]

    def side(kind: type[nn.Linear]) -> Callable[[], tuple[float, list[tuple[int, ...]]]]:
        def run() -> tuple[float, list[tuple[int, ...]]]:
            for layer in layers:
                layer.__class__ = kind
            return written(backend, rows, tokens)

        return run

    found = take_turns({"turned": side(FewRowsLinear), "plain": side(nn.Linear)}, repeats=repeats)
    speeds = {name: [speed for speed, _ in turns] for name, turns in found.items()}
    turned, plain = ([answer for _, answers in found[name] for answer in answers] for name in ("turned", "plain"))
    same = sum(one == other for one, other in zip(turned, plain, strict=True)) / len(turned)
    details = {f"{name}_tokens_per_s": statistics.median(turns) for name, turns in speeds.items()}
    return ratio(
        f"decoding {rows} at once: turned products / plain: tokens/s",
        speeds["turned"],
        speeds["plain"],
        details={**details, "same_answers": same},
    )


def written(backend: TransformersBackend, rows: int, tokens: int) -> tuple[float, list[tuple[int, ...]]]:
    """Tokens per second after the prompts, and the tokens of every answer."""
    batch = backend.live()
    sampling = Sampling(temperature=0, max_new_tokens=tokens)
    batch.admit([Arrival(row, Request((Message("user", QUESTION),), sampling=sampling)) for row in range(rows)])
    answers: list[tuple[int, ...]] = []

    def run() -> None:
        while len(batch):
            answers.extend(piece.completion.token_ids for piece in batch.advance() if piece.completion)

    seconds, _ = timed(backend.loaded.device, run)
    if sum(map(len, answers)) != rows * tokens:
        raise SystemExit(f"{sum(map(len, answers))} tokens were written in place of {rows * tokens}")
    return rows * tokens / seconds, answers


if __name__ == "__main__":
    main()
