"""assistant-axis `.pt`: index `i` = layer `i`, + on the axis = more Assistant.

bare tensor [L, hidden]                the axis, or a role or trait direction (the file does not say which)
{"axis": [L, hidden], "metadata"}      the axis
{"vector": [L, hidden], "type", "role"}    the *mean activation* of a role, not a difference
{"vectors", "experiments"}             a capping configuration: `read_capping_config`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from persona_steering.vectors.formats.foreign import (
    Array,
    Import,
    describe,
    known_model,
    load_pt,
    plain,
    rows,
    save_pt,
    stack_layers,
    text,
)
from persona_steering.vectors.metadata import ModelIdentity, VectorKind
from persona_steering.vectors.vector import SteeringVector, layer_from_assistant_axis_index

FORMAT = "assistant-axis"
AXIS_SIGN = "+ is more Assistant"


@dataclass(frozen=True, eq=False)
class CapThreshold:
    """One cap of a capping configuration, in our sign: a floor on the axis.

    The file stores the negated axis and a ceiling on it; `axis` is minus what it stores, and `floor` minus
    its cap, as a projection on the unit axis.
    """

    experiment: str
    name: str
    layer: int
    axis: Array  # [hidden], raw, + is more Assistant
    floor: float


def read(
    path: Path, *, name: str | None = None, model: ModelIdentity | None = None, kind: VectorKind | None = None
) -> SteeringVector:
    """Any of the layouts above but the capping configuration. Raises: NotFoundError, VectorFileError."""
    return parse(load_pt(path), Import(path, name=name, kind=kind, model=model))


def parse(payload: object, origin: Import) -> SteeringVector:
    """The vector in a loaded file. Raises: VectorFileError."""
    if not isinstance(payload, Mapping):
        return _axis(payload, origin)
    if "axis" in payload:
        return _axis(payload["axis"], origin, metadata=payload.get("metadata"))
    if {"vector", "type", "role"} <= payload.keys():
        return _role(payload, origin)
    if is_capping_config(payload):
        raise origin.error(
            "it is a capping configuration, which holds thresholds and not one vector.",
            "Read it with read_capping_config().",
        )
    raise origin.error(f"{describe(payload)} is not an assistant-axis file.")


def read_capping_config(path: Path) -> tuple[CapThreshold, ...]:
    """Every cap of every experiment, in the file's order; interventions without a cap are left out.

    Raises: NotFoundError, VectorFileError for another layout, or a cap or vector that is not valid.
    """
    origin = Import(path)
    payload = load_pt(path)
    if not isinstance(payload, Mapping) or not is_capping_config(payload):
        raise origin.error(f"it is {describe(payload)}, not a capping configuration.")
    vectors = {name: _capped_vector(origin, str(name), entry) for name, entry in payload["vectors"].items()}
    thresholds = []
    for experiment in payload["experiments"]:
        if not isinstance(experiment, Mapping) or not isinstance(experiment.get("interventions"), list):
            raise origin.error(f"an experiment is {describe(experiment)}.")
        for intervention in experiment["interventions"]:
            if not isinstance(intervention, Mapping) or "cap" not in intervention:
                continue
            name, cap = intervention.get("vector"), intervention["cap"]
            if name not in vectors:
                raise origin.error(f"an experiment uses {name!r}, which is not among its vectors.")
            if isinstance(cap, np.ndarray) and cap.size == 1:
                cap = float(cap.reshape(()))
            if isinstance(cap, bool) or not isinstance(cap, (int, float)) or not math.isfinite(cap):
                raise origin.error(f"the cap of {name!r} is {cap!r}, not a finite number.")
            layer, stored = vectors[name]
            thresholds.append(
                CapThreshold(str(experiment.get("id", "")), str(name), layer, axis=-stored, floor=-float(cap))
            )
    return tuple(thresholds)


def write(path: Path, vector: SteeringVector, *, with_metadata: bool = False) -> None:
    """Write the bare tensor `[L, hidden]`, or {"axis", "metadata"}, atomically.

    Raises: VectorError when a layer is missing or the model is unknown, StorageError.
    """
    model = known_model(vector, source=FORMAT)
    tensor = stack_layers(vector, model.num_layers, source=FORMAT)
    metadata = {"model": model.id, "name": vector.name, "sign": vector.metadata.sign}
    save_pt(path, {"axis": tensor, "metadata": metadata} if with_metadata else tensor)


def is_capping_config(payload: Mapping[object, object]) -> bool:
    """Whether a loaded dict has the layout of a capping configuration."""
    return isinstance(payload.get("vectors"), Mapping) and isinstance(payload.get("experiments"), list)


def _directions(value: object, origin: Import, what: str) -> dict[int, Array]:
    tensor = rows(origin, value, what)
    if origin.model and origin.model.num_layers != tensor.shape[0]:
        raise origin.error(
            f"{tensor.shape[0]} rows are a model of as many layers in assistant-axis' layout, "
            f"but the model is {origin.model}.",
            "Name the model that it was made for, or another convention.",
        )
    return {layer_from_assistant_axis_index(index): tensor[index] for index in range(tensor.shape[0])}


def _axis(value: object, origin: Import, metadata: object = None) -> SteeringVector:
    kind = origin.kind or "axis"
    settings = {} if metadata is None else {"original_metadata": plain(metadata)}
    return origin.vector(
        _directions(value, origin, "the axis"),
        source=FORMAT,
        kind=kind,
        sign=AXIS_SIGN if kind == "axis" else f"+ is more of the {kind}",
        settings=settings,
    )


def _role(payload: Mapping[str, object], origin: Import) -> SteeringVector:
    role = text(payload["role"])
    return origin.vector(
        _directions(payload["vector"], origin, "the role's vector"),
        source=FORMAT,
        kind="baseline",
        name=role or None,
        sign="a mean activation, not a difference",
        description=f"Mean response activation of the role {role!r}: subtract a baseline from it.",
        settings={"role": role, "type": plain(payload["type"])},
    )


def _capped_vector(origin: Import, name: str, entry: object) -> tuple[int, Array]:
    if not isinstance(entry, Mapping):
        raise origin.error(f"vector {name!r} is {describe(entry)}.")
    layer, vector = entry.get("layer"), entry.get("vector")
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise origin.error(f"vector {name!r} has the layer {layer!r}.")
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.size == 0:
        raise origin.error(f"vector {name!r} is {describe(vector)}, not a tensor [hidden].")
    if not np.isfinite(vector).all():
        raise origin.error(f"vector {name!r} has values that are not finite.")
    return layer_from_assistant_axis_index(layer), vector
