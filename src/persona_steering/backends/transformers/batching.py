"""Which requests run together: sorted by length, sized to memory, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from persona_steering.backends.transformers.loading import LoadedModel, is_out_of_memory
from persona_steering.errors import ModelMemoryError

T = TypeVar("T")
R = TypeVar("R")

CPU_BATCH = 32  # beyond it a CPU gains nothing, and one batch is what a killed run loses
CPU_TOKENS = 1056  # per forward of given texts: more than the caches hold makes it a quarter slower
MAX_BATCH = 256


def auto_batch_size(loaded: LoadedModel, tokens_per_row: int) -> int:
    """How many rows of `tokens_per_row` fit beside the model."""
    if loaded.device.type != "cuda":
        return CPU_BATCH
    free, _ = torch.cuda.mem_get_info(loaded.device)
    free += torch.cuda.memory_reserved(loaded.device) - torch.cuda.memory_allocated(loaded.device)
    return max(1, min(MAX_BATCH, int(0.6 * free / (loaded.kv_bytes_per_token * tokens_per_row))))


@contextmanager
def memory_error(what: str) -> Iterator[None]:
    """Turns running out of memory into ModelMemoryError, where nothing smaller can be tried."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ModelMemoryError(
            f"out of memory with {what}.",
            hint="Use a shorter prompt or answer, --quantization 4bit, --device cpu or a smaller model.",
        ) from error


def run_in_batches(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Sequence[R]],
    *,
    length: Callable[[T], object],
    batch_size: Callable[[Sequence[T]], int],
) -> list[R]:
    """Results in the order of `items`; batches are runs of similar `length`, longest first.

    A batch that runs out of memory is split in two, down to one row; then ModelMemoryError is raised. The longest
    go first, so that memory runs out at the start or not at all.
    """
    order = sorted(range(len(items)), key=lambda i: length(items[i]), reverse=True)  # type: ignore[arg-type,return-value]
    results: dict[int, R] = {}
    limit = MAX_BATCH
    while order:
        size = max(1, min(limit, batch_size([items[i] for i in order[:MAX_BATCH]])))
        now = order[:size]
        found: Sequence[R] | None
        try:
            found = work([items[i] for i in now])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(now) == 1:
                with memory_error("a single row"):
                    raise
            limit = len(now) // 2
            found = None
        if found is None:
            # only here: inside the handler the traceback still holds the tensors of the failed batch
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        results.update(zip(now, found, strict=True))
        order = order[len(now) :]
    return [results[i] for i in range(len(items))]
