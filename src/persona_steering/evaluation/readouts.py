"""Given answers read along directions: one teacher-forced pass for many vectors and layers.

With `a` the mean of an answer's tokens in the residual stream of a layer, `p` its last prompt token there, and `v`
the vector's direction ("Persona Vectors", arXiv 2507.21509):

    proj               a·v / ||v||     a signed length, not centred
    prompt_last_proj   p·v / ||v||     what the model is about to do, before it has answered
    cos_sim            a·v / (||a|| ||v||)

Prompt and answer are tokenised apart, so their border never moves; the paper's own code tokenises them together and
counts the prompt's tokens alone, which shifts the border where a token spans it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from persona_steering.backends.base import Activations, Backend, Text
from persona_steering.backends.tokens import Trace
from persona_steering.calibration.dose import random_like
from persona_steering.errors import CancelledError, PromptError, RecipeError, UsageError
from persona_steering.files import write_atomically
from persona_steering.vectors import ModelIdentity, SteeringVector

ProjectionKind = Literal["proj", "prompt_last_proj", "cos_sim"]
CHUNK = 128  # texts a killed run may lose; even, so that a pair of texts is in one chunk
CONTROLS = 20  # random directions at each layer

T = TypeVar("T")


@dataclass(frozen=True)
class Readout(Trace):
    """A vector at one layer. `label` is the vector's name, or its file's without the ending.

    A `control` is a random direction that others are compared with.
    """

    control: bool = False

    def __str__(self) -> str:
        return f"{self.label} at layer {self.layer}"

    @property
    def norm(self) -> float:
        """||v||, the length of the raw direction."""
        return self.vector.norms[self.layer]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one text, a value for each readout; without any, `problem` says why."""

    values: tuple[float, ...] = ()
    problem: str = ""


def make_readouts(
    vectors: Mapping[str, SteeringVector], layers: Sequence[int] | None, model: ModelIdentity
) -> tuple[Readout, ...]:
    """Every vector at every layer. Without layers, each at the middle of the layers that it was calibrated for.

    Raises ModelMismatchError for a vector of another model, RecipeError for a layer that the model or the vector
    does not have, VectorError for a direction of length zero, and UsageError where the layer is not known.
    """
    if not vectors:
        raise UsageError("no vector was named.", hint="Give --vector NAME, or a file.")
    for layer in layers or ():
        if not 0 <= layer < model.num_layers:
            raise RecipeError(
                f"the model has no layer {layer}.",
                hint=f"Its layers are 0 to {model.num_layers - 1}; row k of a persona_vectors file is layer k-1.",
            )
    readouts = []
    for label, vector in vectors.items():
        vector.check_model(model)
        for layer in layers or (_calibrated_layer(label, vector),):
            vector.unit(layer)
            readouts.append(Readout(label, vector, layer))
    return tuple(readouts)


def _calibrated_layer(label: str, vector: SteeringVector) -> int:
    calibration = vector.metadata.calibration
    if calibration is None:
        raise UsageError(f"{label!r} is not calibrated, so no layer is its own.", hint="Name one: --layer N.")
    band = sorted(calibration.layers)
    return band[len(band) // 2]


def control_readouts(readouts: Sequence[Readout], *, seed: int) -> tuple[Readout, ...]:
    """CONTROLS random directions at each layer of the readouts: what a difference along nothing looks like."""
    layers = {readout.layer: readout.vector for readout in readouts}
    return tuple(
        Readout(f"random {i}", random_like(vector.restrict([layer]), seed=seed + i), layer, control=True)
        for layer, vector in layers.items()
        for i in range(CONTROLS)
    )


def null_means(differences: np.ndarray, readouts: Sequence[Readout], layer: int) -> np.ndarray:
    """The mean difference along each control at a layer, `[CONTROLS]`, of differences `[rows, readouts]`."""
    chosen = [i for i, readout in enumerate(readouts) if readout.control and readout.layer == layer]
    means: np.ndarray = differences[:, chosen].mean(0)
    return means


class Reader:
    """Reads texts along several readouts at once, with a model that need not be the vectors' own."""

    def __init__(self, backend: Backend, readouts: Sequence[Readout], kind: ProjectionKind = "proj") -> None:
        self.backend, self.readouts, self.kind = backend, tuple(readouts), kind
        self._layers = sorted({readout.layer for readout in readouts})
        self._units = np.stack([readout.vector.unit(readout.layer) for readout in readouts]).astype(np.float64)

    def digest(self, source: str) -> str:
        """12 hex digits of what determines the readings of `source`: model, number format, directions and kind."""
        info = self.backend.info
        directions = [[readout.label, readout.vector.digest, readout.layer] for readout in self.readouts]
        model = [self.backend.identity.fingerprint, info.dtype, info.quantization]
        fields = [model, self.kind, directions, source]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:12]

    def read(self, texts: Sequence[Text]) -> list[Reading]:
        """A reading of each text, in order. What cannot be read, such as an empty or a too long one, says why."""
        if self.kind == "prompt_last_proj":  # what follows the prompt cannot change it, so one token is enough
            texts = [replace(text, response=".") for text in texts]
        spoken = [text for text in texts if text.response]
        found = iter(_captured(self.backend, spoken, self._layers))
        return [self._reading(next(found)) if text.response else Reading(problem=_EMPTY) for text in texts]

    def _reading(self, found: Activations | str) -> Reading:
        if isinstance(found, str):
            return Reading(problem=found)
        if not found.tokens and self.kind != "prompt_last_proj":
            return Reading(problem="the answer is nothing but thoughts")
        states = found.prompt_last if self.kind == "prompt_last_proj" else found.mean
        rows = np.stack([states[readout.layer] for readout in self.readouts]).astype(np.float64)
        values = np.einsum("rh,rh->r", rows, self._units)
        if self.kind == "cos_sim":
            values = values / np.linalg.norm(rows, axis=1)
        if not np.isfinite(values).all():
            return Reading(problem="a projection is not finite; another number format may help (--dtype float32)")
        return Reading(tuple(map(float, values)))


_EMPTY = "the answer is empty"


def saved_readings(
    reader: Reader,
    texts: Iterable[Text | str],
    *,
    folder: Path,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Reading]:
    """The readings of texts, in order, each chunk saved in `folder` as it is read and not read again.

    Only a chunk is in memory at a time. An item that is no text but a problem is passed on as one. The name of the
    folder must tell the texts and the reader (`Reader.digest`). Raises CancelledError, StorageError.
    """
    for number, part in enumerate(batched(texts, CHUNK)):
        file = folder / f"{number:05d}.json"
        found = _load(file, len(part), len(reader.readouts))
        if found is None:
            if cancelled is not None and cancelled():
                raise CancelledError("stopped.", hint=f"The same command goes on from {folder.parent}.")
            fresh = iter(reader.read([item for item in part if isinstance(item, Text)]))
            found = [Reading(problem=item) if isinstance(item, str) else next(fresh) for item in part]
            write_atomically(file, json.dumps([[one.values, one.problem] for one in found]).encode())
        yield from found


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    rest = iter(items)
    while part := list(itertools.islice(rest, size)):
        yield part


def _load(file: Path, texts: int, readouts: int) -> list[Reading] | None:
    """A saved chunk; None where there is none of that many texts and readouts."""
    try:
        found = [Reading(tuple(map(float, values)), str(problem)) for values, problem in json.loads(file.read_bytes())]
    except (OSError, ValueError, TypeError):
        return None
    fits = len(found) == texts and all(one.problem or len(one.values) == readouts for one in found)
    return found if fits else None


def _captured(backend: Backend, texts: Sequence[Text], layers: Sequence[int]) -> list[Activations | str]:
    """The activations of each text, or why the model refuses it. One bad text does not cost the others theirs."""
    if not texts:
        return []
    try:
        return list(backend.capture(texts, layers=layers))
    except PromptError as error:
        if len(texts) == 1:
            return [error.message.rstrip(".")]
        half = len(texts) // 2
        return _captured(backend, texts[:half], layers) + _captured(backend, texts[half:], layers)
