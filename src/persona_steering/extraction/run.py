"""A run: a folder in which every batch of answers is saved as it ends.

    runs/<name>/plan.json                     what was asked for, for a reader
    runs/<name>/<phase>-<digest>/0003.safetensors   one batch: texts, and their activations where captured

A phase is named by the digest of its requests, so the same command finds its own batches again and changed
settings never meet old answers. Batches are cut at fixed places: an interrupted run that resumes has the batches,
and so the result, of one that was not. A batch file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from persona_steering.backends.base import (
    Backend,
    Completion,
    Progress,
    ProgressCallback,
    Request,
    no_progress,
)
from persona_steering.errors import CancelledError, StorageError
from persona_steering.vectors.files import write_atomically

BATCH = 32  # answers a killed run may lose
_TEXTS = "answers"


@dataclass(frozen=True, slots=True)
class Answered:
    """One saved answer. `mean` is float32 `[captured layers, hidden]`; None when nothing was captured."""

    text: str
    tokens: int
    mean: np.ndarray | None
    norms: np.ndarray | None


class Run:
    """Opens or continues the run in `folder`."""

    def __init__(self, folder: Path, plan: Mapping[str, JsonValue]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create the run folder {folder}: {error.strerror}.") from error
        if not (folder / "plan.json").exists():
            write_atomically(folder / "plan.json", json.dumps(plan, indent=1, ensure_ascii=False).encode())

    def answers(
        self,
        backend: Backend,
        requests: Sequence[Request],
        *,
        phase: str,
        progress: ProgressCallback = no_progress,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Answered]:
        """Answers to `requests`, in order: those on disk, and the rest from `backend`.

        Raises CancelledError with what is done on disk, and what the backend raises.
        """
        folder = self.folder / f"{phase}-{requests_digest(requests)}"
        answered: list[Answered] = []
        progress(Progress(phase, 0, len(requests)))
        for number, start in enumerate(range(0, len(requests), BATCH)):
            part = requests[start : start + BATCH]
            file = folder / _file_name(number)
            batch = _load(file, len(part))
            if batch is None:
                batch = self._generate(backend, part, cancelled)
                _save(file, batch)
            answered += batch
            newest = (batch[-1].text, part[-1].messages[-1].content)
            progress(Progress(phase, len(answered), len(requests), *newest))
        return answered

    @staticmethod
    def saved(folder: Path, requests: Sequence[Request], *, phase: str) -> int:
        """How many answers to `requests` the run in `folder` has on disk already; it need not exist."""
        phase_folder = folder / f"{phase}-{requests_digest(requests)}"
        batches = sum((phase_folder / _file_name(i)).is_file() for i in range(-(-len(requests) // BATCH)))
        return min(batches * BATCH, len(requests))

    def _generate(
        self, backend: Backend, part: Sequence[Request], cancelled: Callable[[], bool] | None
    ) -> list[Answered]:
        done = backend.generate(part, cancelled=cancelled)
        if cancelled is not None and cancelled():
            raise CancelledError("stopped.", hint=f"The same command goes on from {self.folder}.")
        return [_answered(request, completion) for request, completion in zip(part, done, strict=True)]


def _file_name(batch: int) -> str:
    return f"{batch:04d}.safetensors"


def requests_digest(requests: Sequence[Request]) -> str:
    """12 hex digits of what determines the answers: messages, recipes, sampling and captured layers."""
    digest = hashlib.sha256()
    for request in requests:
        turns = [[message.role, message.content] for message in request.messages]
        fields = [turns, request.recipe.hash, request.sampling.model_dump(mode="json"), list(request.capture)]
        digest.update(json.dumps(fields, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def answer_seed(seed: int, *parts: object) -> int:
    """A seed for one answer that depends on the run's seed and the answer's place, not on batches."""
    text = "/".join(map(str, (seed, *parts)))
    number: int = struct.unpack(">Q", hashlib.sha256(text.encode()).digest()[:8])[0]
    return number >> 1


def _answered(request: Request, completion: Completion) -> Answered:
    activations = completion.activations
    if activations is None:
        return Answered(completion.text, len(completion.token_ids), None, None)
    mean = np.stack([activations.mean[layer] for layer in request.capture])
    norms = np.array([activations.norms[layer] for layer in request.capture], np.float32)
    return Answered(completion.text, activations.tokens, mean, norms)


def _save(file: Path, batch: Sequence[Answered]) -> None:
    from safetensors.numpy import save

    captured = [i for i, answer in enumerate(batch) if answer.mean is not None]
    tensors = {
        "tokens": np.array([answer.tokens for answer in batch], np.int64),
        "captured": np.array(captured),
    }
    if captured:
        tensors["mean"] = np.stack([_present(batch[i].mean) for i in captured])
        tensors["norms"] = np.stack([_present(batch[i].norms) for i in captured])
    texts = json.dumps([answer.text for answer in batch], ensure_ascii=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, save(tensors, metadata={_TEXTS: texts}))


def _load(file: Path, expected: int) -> list[Answered] | None:
    """The batch in `file`; None when there is none, or it is damaged and must be made again."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, "numpy") as opened:
            texts = json.loads(opened.metadata()[_TEXTS])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError:
        return None
    if len(texts) != expected:
        return None
    place = {int(i): k for k, i in enumerate(tensors["captured"])}
    return [
        Answered(
            text,
            int(tensors["tokens"][i]),
            tensors["mean"][place[i]] if i in place else None,
            tensors["norms"][place[i]] if i in place else None,
        )
        for i, text in enumerate(texts)
    ]


def _present(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


class Moments:
    """Running mean and variance (Welford) in float64, of arrays of one shape."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def add(self, value: np.ndarray) -> None:
        """Takes one more array."""
        wide = value.astype(np.float64)
        self.count += 1
        before = wide - self._mean
        self._mean = self._mean + before / self.count
        self._squares = self._squares + before * (wide - self._mean)

    @property
    def mean(self) -> np.ndarray:
        """The mean so far; `count` must not be 0."""
        return np.asarray(self._mean)

    @property
    def variance(self) -> np.ndarray:
        """The unbiased variance so far; zero for a single array."""
        return np.asarray(self._squares) / max(self.count - 1, 1)


def moments(arrays: Iterator[np.ndarray]) -> Moments:
    """The moments of all arrays."""
    found = Moments()
    for array in arrays:
        found.add(array)
    return found
