"""`SteeringVector`: per-layer directions with their provenance, and the owner of the layer convention.

Layer `i` is the 0-based decoder block `i`; a direction at layer `i` lives in the residual stream at that
block's output (after the MLP and the residual add, before the next norm), never after the final norm. Other
tools number differently; the conversions are here and nowhere else:

    persona_vectors `.pt`   row k = layer k-1; row 0 (embeddings) and row L (after the final norm) are dropped
    assistant-axis `.pt`    index i = layer i
    GGUF control vector     direction.N = layer N; llama.cpp's own generator stores layer N-1 as direction.N

Directions are raw differences of means in float32, never normalised on disk: + is more of the persona or
trait, and on the assistant axis + is more Assistant. This module knows nothing about files or recipes.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from persona_steering.errors import ModelMismatchError, RecipeError, VectorError, VectorFileError
from persona_steering.vectors.metadata import (
    NAME_PATTERN,
    SCHEMA_VERSION,
    Calibration,
    ModelIdentity,
    VectorKind,
    VectorMetadata,
    check_name,
    suggest_name,
)
from persona_steering.vectors.values import Interval

__all__ = [
    "NAME_PATTERN",
    "SCHEMA_VERSION",
    "Calibration",
    "Direction",
    "GGUFConvention",
    "Interval",
    "ModelIdentity",
    "SteeringVector",
    "VectorKind",
    "VectorMetadata",
    "check_name",
    "check_same_model",
    "layer_from_assistant_axis_index",
    "layer_from_gguf_index",
    "layer_from_persona_vectors_row",
    "replace_metadata",
    "suggest_name",
]

GGUFConvention = Literal["block", "cvector-generator"]
Direction = NDArray[np.float32]  # [hidden]


def layer_from_persona_vectors_row(row: int, num_layers: int) -> int | None:
    """Row `k` of a persona_vectors tensor `[num_layers + 1, hidden]` as a layer.

    None for row 0 (the embeddings) and row `num_layers` (after the final norm): neither is a block's output.
    Raises: VectorFileError for a row outside the tensor.
    """
    if not 0 <= row <= num_layers:
        raise VectorFileError(f"row {row} is outside a persona_vectors file of {num_layers + 1} rows.")
    return row - 1 if 0 < row < num_layers else None


def layer_from_assistant_axis_index(index: int) -> int:
    """Index `i` of an assistant-axis tensor `[num_layers, hidden]` as a layer: the same number."""
    if index < 0:
        raise VectorFileError(f"an assistant-axis index cannot be negative, got {index}.")
    return index


def layer_from_gguf_index(n: int, convention: GGUFConvention = "block") -> int:
    """`direction.N` of a GGUF control vector as a layer.

    "block": layer N, as llama.cpp applies it and most tools write it. "cvector-generator": layer N-1, because
    llama.cpp's own generator measures at block N-1 what it then stores as `direction.N`.
    Raises: VectorFileError for an index that the convention cannot hold.
    """
    layer = n if convention == "block" else n - 1
    if layer < 0:
        raise VectorFileError(f"direction.{n} is not a layer under the {convention!r} convention.")
    return layer


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """Directions `{layer: float32 [hidden]}`, possibly of a subset of the layers, and their metadata.

    The arrays are copied, converted to float32 and made read-only.
    Raises: VectorFileError naming the layer when one is not finite, has another size, or is not in the model.
    """

    directions: Mapping[int, Direction]
    metadata: VectorMetadata

    # numpy scalars must leave `2.0 * vector` to __rmul__ instead of looking inside
    __array_ufunc__ = None

    def __post_init__(self) -> None:
        checked = _checked_directions(self.directions, self.metadata)
        object.__setattr__(self, "directions", MappingProxyType(checked))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy cannot be pickled or copied
        return SteeringVector, (dict(self.directions), self.metadata)

    def __repr__(self) -> str:
        layers = f"{len(self.layers)} layers {self.layers[0]}..{self.layers[-1]}"
        return f"SteeringVector({self.name!r}, {self.metadata.kind}, {layers} of {self.hidden_size})"

    @property
    def name(self) -> str:
        return self.metadata.name

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers covered, ascending."""
        return tuple(self.directions)

    @property
    def hidden_size(self) -> int:
        return int(self.directions[self.layers[0]].shape[0])

    @cached_property
    def norms(self) -> dict[int, float]:
        """The norm of the raw direction, per layer."""
        return {layer: float(np.linalg.norm(v.astype(np.float64))) for layer, v in self.directions.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the layers and their values; the metadata does not count."""
        sha = hashlib.sha256()
        for layer, direction in self.directions.items():
            sha.update(struct.pack("<q", layer))
            sha.update(direction.astype("<f4").tobytes())
        return sha.hexdigest()

    def direction(self, layer: int) -> Direction:
        """The raw direction `[hidden]` at a layer. Raises: RecipeError for a layer that is not covered."""
        if layer not in self.directions:
            raise RecipeError(
                f"vector {self.name!r} has no direction at layer {layer}.",
                hint=f"It covers layers {layer_ranges(self.layers)}.",
            )
        return self.directions[layer]

    def unit(self, layer: int) -> Direction:
        """The unit direction `[hidden]` at a layer.

        Raises: RecipeError for a layer that is not covered, VectorError for a direction of norm zero.
        """
        raw = self.direction(layer).astype(np.float64)
        norm = self.norms[layer]
        if norm == 0.0:
            raise VectorError(
                f"vector {self.name!r} is zero at layer {layer}: it has no direction there.",
                hint="Leave this layer out, or extract the vector again.",
            )
        return np.asarray(raw / norm, dtype=np.float32)

    def restrict(self, layers: Iterable[int]) -> SteeringVector:
        """The same vector at these layers only; calibrations that need another layer are dropped.

        Raises: RecipeError for a layer that is not covered.
        """
        kept = sorted(set(layers))
        directions = {layer: self.direction(layer) for layer in kept}

        def still_valid(calibration: Calibration | None) -> Calibration | None:
            return calibration if calibration and set(calibration.layers) <= set(kept) else None

        thresholds = {
            percentile: {layer: value for layer, value in per_layer.items() if layer in directions}
            for percentile, per_layer in self.metadata.thresholds.items()
        }
        changes: dict[str, object] = {
            "calibration": still_valid(self.metadata.calibration),
            "safe_calibration": still_valid(self.metadata.safe_calibration),
            "thresholds": thresholds,
        }
        return SteeringVector(directions, self.metadata.model_copy(update=changes))

    def cosine(self, other: SteeringVector) -> dict[int, float]:
        """Cosine similarity at every layer that both cover.

        Raises: VectorError when they share no layer, differ in size, or one is zero at a shared layer.
        """
        shared = [layer for layer in self.layers if layer in other.directions]
        if not shared or self.hidden_size != other.hidden_size:
            raise VectorError(
                f"{self!r} and {other!r} cannot be compared.",
                hint="They need a layer in common and one hidden size.",
            )
        return {
            layer: float(self.unit(layer).astype(np.float64) @ other.unit(layer).astype(np.float64)) for layer in shared
        }

    def check_model(self, identity: ModelIdentity) -> None:
        """Refuse to be used on any model but the one this vector was made for.

        Raises: ModelMismatchError naming both models.
        """
        made_for = self.metadata.model
        if made_for is None:
            raise ModelMismatchError(
                f"vector {self.name!r} does not say which model it was made for; the model is {identity}.",
                hint="If it belongs to this model, import it again and name the model.",
            )
        if made_for.is_same_as(identity):
            return
        raise ModelMismatchError(
            f"vector {self.name!r} was made for {made_for}, and the model is {identity}.",
            hint="Extract it again for this model, or transfer it.",
        )

    def __add__(self, other: SteeringVector) -> SteeringVector:
        self._check_compatible(other)
        return self._derived(lambda layer: self.directions[layer] + other.directions[layer])

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        self._check_compatible(other)
        return self._derived(lambda layer: self.directions[layer] - other.directions[layer])

    def __mul__(self, factor: float) -> SteeringVector:
        if not math.isfinite(factor):
            raise VectorError(f"a vector cannot be multiplied by {factor}.", hint="Use a finite number.")
        return self._derived(lambda layer: self.directions[layer] * np.float32(factor))

    __rmul__ = __mul__

    def __neg__(self) -> SteeringVector:
        return self._derived(lambda layer: -self.directions[layer])

    def _derived(self, at: Callable[[int], Direction]) -> SteeringVector:
        with np.errstate(over="ignore"):  # an overflow is infinite, and refused by the constructor
            directions = {layer: at(layer) for layer in self.layers}
        # What was measured on these directions does not hold for the new ones.
        unmeasured: dict[str, object] = {"calibration": None, "safe_calibration": None, "thresholds": {}}
        return SteeringVector(directions, self.metadata.model_copy(update=unmeasured))

    def _check_compatible(self, other: SteeringVector) -> None:
        if self.layers != other.layers or self.hidden_size != other.hidden_size:
            raise VectorError(
                f"{self!r} and {other!r} do not cover the same layers and hidden size.",
                hint="Use restrict() to the layers they share.",
            )
        check_same_model(self, other)


def check_same_model(first: SteeringVector, second: SteeringVector) -> None:
    """Refuse to combine vectors of two models; one that does not say its model is taken at its word.

    Raises: ModelMismatchError naming both.
    """
    mine, theirs = first.metadata.model, second.metadata.model
    if mine and theirs and not mine.is_same_as(theirs):
        raise ModelMismatchError(
            f"vector {first.name!r} was made for {mine}, and {second.name!r} for {theirs}.",
            hint="Only vectors of one model can be combined; transfer one of them first.",
        )


def replace_metadata(vector: SteeringVector, metadata: VectorMetadata) -> SteeringVector:
    """The same directions with other metadata, which is checked against them again."""
    return SteeringVector(vector.directions, metadata)


def layer_ranges(layers: Iterable[int]) -> str:
    """Layers in short: [0, 1, 2, 5] as "0-2, 5"."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _checked_directions(directions: Mapping[int, ArrayLike], metadata: VectorMetadata) -> dict[int, Direction]:
    """Copies by ascending layer, float32 and read-only, each of them checked."""
    model = metadata.model
    if not directions:
        raise VectorFileError(f"vector {metadata.name!r} has no layers.")
    for layer in directions:
        if isinstance(layer, bool) or not isinstance(layer, (int, np.integer)) or layer < 0:
            raise VectorFileError(f"vector {metadata.name!r}: {layer!r} is not a layer number.")
        if model and layer >= model.num_layers:
            raise VectorFileError(f"vector {metadata.name!r} has a layer {layer}, but its model is {model}.")
    checked: dict[int, Direction] = {}
    size = model.hidden_size if model else None
    for layer in sorted(directions):
        where = f"vector {metadata.name!r}, layer {layer}"
        array = np.asarray(directions[layer])
        if array.dtype.kind not in "fiu":
            raise VectorFileError(f"{where}: the values are {array.dtype}, not real numbers.")
        if array.ndim != 1 or array.size == 0:
            raise VectorFileError(f"{where}: the shape is {list(array.shape)}, not [hidden].")
        size = size or array.shape[0]
        if array.shape[0] != size:
            raise VectorFileError(f"{where}: {array.shape[0]} values where {size} are expected.")
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
            direction = np.array(array, dtype=np.float32)
        if not np.isfinite(direction).all():
            bad = int((~np.isfinite(direction)).sum())
            raise VectorFileError(
                f"{where}: {bad} of {size} values are not finite.", hint="Extract or export the vector again."
            )
        direction.setflags(write=False)
        checked[int(layer)] = direction
    return checked
