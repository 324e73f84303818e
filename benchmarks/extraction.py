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

from persona_steering.backends.base import Activations, Completion, Message, Request, Sampling, Text, conversation
from persona_steering.backends.transformers.backend import TransformersBackend
from persona_steering.extraction.contrast import ExtractionSettings, extract_baseline, extract_persona
from persona_steering.extraction.run import Run
from persona_steering.personas import load_archetype, load_questions

GIVEN = 2  # batches of given texts


def main(arguments: Sequence[str] | None = None) -> None:
    options = model_parser(__doc__).parse_args(arguments)
    sizes = {"batch": options.batch, "tokens": options.tokens}
    with open_backend(options) as backend:
        # memory first: what generating leaves behind would hide it
        figures = [
            *memory(backend, **sizes),
            writing(backend, **sizes, repeats=options.repeats),
            *given(backend, **sizes, repeats=options.repeats),
            *from_prompts(backend, **sizes, repeats=options.repeats),
        ]
        order = (2, 3, 4, 0, 1, *range(5, len(figures))) if len(figures) > 6 else range(len(figures))
        report(
            "extraction",
            [figures[i] for i in order],
            device=backend.loaded.device.type,
            options=options,
            about=describe(backend),
        )
