"""Answers that come and go: the rolling batch of this package beside the continuous batching of transformers.

    python benchmarks/batching.py

Both write the same number of tokens for the same unsteered prompts, of unequal length, in one process. The second
has no place for a recipe of each row: its layers see all rows as one, flattened.
"""

from __future__ import annotations

import copy
import logging
import statistics
from collections.abc import Sequence

import transformers
from timing import Figure, describe, model_parser, open_backend, ratio, report, take_turns, timed

from persona_steering.backends.base import Arrival, Message, Request, Sampling
from persona_steering.backends.transformers.backend import TransformersBackend

QUESTION = "How was your day?"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = model_parser(__doc__)
    options = parser.parse_args(arguments)
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    with open_backend(options) as backend:
        figure = beside(backend, rows=options.batch, tokens=options.tokens, repeats=options.repeats)
        report("batching", [figure], device=backend.loaded.device.type, options=options, about=describe(backend))


def beside(backend: TransformersBackend, *, rows: int, tokens: int, repeats: int) -> Figure:
    """Tokens per second of the one over those of the other."""
    questions = [" ".join([QUESTION] * (1 + row % 4)) for row in range(rows)]
    device = backend.loaded.device
    prompts = [backend.loaded.encoder.encode((Message("user", text),)) for text in questions]
    other = copy.copy(backend.loaded.model)
    config = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)

    def rolling() -> float:
        batch = backend.live()
        sampling = Sampling(temperature=0, max_new_tokens=tokens)
        requests = [Request((Message("user", text),), sampling=sampling) for text in questions]

        def run() -> int:
            batch.admit([Arrival(key, request) for key, request in enumerate(requests)])
            done = []
            while len(batch):
                done += [piece.completion for piece in batch.advance() if piece.completion]
            return sum(one.tokens for one in done)

        seconds, written = timed(device, run)
        return checked(written) / seconds

    def continuous() -> float:
        def run() -> int:
            found = other.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)
            return sum(len(one.generated_tokens) for one in found.values())

        seconds, written = timed(device, run)
        return checked(written) / seconds

    def checked(written: int) -> int:
        if written != rows * tokens:
            raise SystemExit(f"{written} tokens were written in place of {rows * tokens}")
        return written

    found = take_turns({"rolling": rolling, "continuous": continuous}, repeats=repeats)
    details = {f"{name}_tokens_per_s": statistics.median(turns) for name, turns in found.items()}
    return ratio(
        "rolling batch / transformers' continuous batching: tokens/s",
        found["rolling"],
        found["continuous"],
        details=details,
    )


if __name__ == "__main__":
    main()
