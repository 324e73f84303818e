"""assistant-axis `.pt`: index `i` = layer `i`, + on the axis = more Assistant.

bare tensor [L, hidden]                the axis, or a role or trait direction (the file does not say which)
{"axis": [L, hidden], "metadata"}      the axis
{"vector": [L, hidden], "type", "role"}    the *mean activation* of a role, not a difference
{"vectors", "experiments"}             a capping configuration: caps per experiment (`read_capping_config`), or read
                                       as one axis with floors. An experiment's id ends in its percentile: -p0.25
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from persona_steering.errors import VectorError
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
from persona_steering.vectors.metadata import UNKNOWN_PERCENTILE, ModelIdentity, VectorKind, known_percentiles
from persona_steering.vectors.vector import SteeringVector, layer_from_assistant_axis_index

FORMAT = "assistant-axis"
CAPPING_FORMAT = "assistant-axis-capping"
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
    """Any of the layouts above. Raises: NotFoundError, VectorFileError."""
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
        return _capped_axis(payload, origin)
    raise origin.error(f"{describe(payload)} is not an assistant-axis file.")


def read_capping_config(path: Path) -> tuple[CapThreshold, ...]:
    """Every cap of every experiment, in the file's order; interventions without a cap are left out.

    Raises: NotFoundError, VectorFileError for another layout, or a cap or vector that is not valid.
    """
    origin = Import(path)
    payload = load_pt(path)
    if not isinstance(payload, Mapping) or not is_capping_config(payload):
        raise origin.error(f"it is {describe(payload)}, not a capping configuration.")
    return tuple(_thresholds(payload, origin))


def _thresholds(payload: Mapping[Any, Any], origin: Import) -> list[CapThreshold]:
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
    return thresholds


def write(path: Path, vector: SteeringVector) -> None:
    """Write the layout of the vector's kind, atomically: an axis as {"axis", "metadata"}, a baseline as a role's
    mean, a persona or trait as the bare tensor `[L, hidden]`.

    Raises: VectorError when a layer is missing or the model is unknown, StorageError.
    """
    model = known_model(vector, source=FORMAT)
    tensor = stack_layers(vector, model.num_layers, source=FORMAT)
    if vector.metadata.kind == "axis":
        metadata = {"model": model.id, "name": vector.name, "sign": vector.metadata.sign}
        save_pt(path, {"axis": tensor, "metadata": metadata})
    elif vector.metadata.kind == "baseline":
        save_pt(path, {"vector": tensor, "type": "mean", "role": vector.name})
    else:
        save_pt(path, tensor)


def write_capping_config(path: Path, axis: SteeringVector) -> None:
    """Write an axis with its floors as a capping configuration, atomically: an experiment for each percentile.

    Raises: VectorError when there is no floor at a known percentile, StorageError.
    """
    floors = known_percentiles(axis.metadata.thresholds)
    if not floors:
        raise VectorError(
            f"{axis.name!r} carries no thresholds at known percentiles, so there is nothing to cap at.",
            hint="Export an axis that was made with: persona-steer extract-axes",
        )
    names = {layer: f"layer_{layer}/{axis.name}" for layer in capped_layers(axis)}
    experiments = [
        {
            "id": f"layers_{min(values)}:{max(values) + 1}-p{percent / 100:g}",
            "interventions": [{"vector": names[layer], "cap": -floor} for layer, floor in sorted(values.items())],
        }
        for percent, values in floors.items()
    ]
    vectors = {names[layer]: {"vector": -axis.directions[layer], "layer": layer} for layer in names}
    about = {"name": axis.name, "sign": axis.metadata.sign}  # other readers pass over these
    save_pt(path, {"vectors": vectors, "experiments": experiments, **about})


def capped_layers(axis: SteeringVector) -> tuple[int, ...]:
    """The layers that a capping configuration holds: those with a floor at a known percentile."""
    floors = known_percentiles(axis.metadata.thresholds).values()
    return tuple(layer for layer in axis.layers if any(layer in values for values in floors))


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


def _capped_axis(payload: Mapping[Any, Any], origin: Import) -> SteeringVector:
    """One axis out of the caps of all experiments, which must agree wherever they meet."""
    directions: dict[int, Array] = {}
    thresholds: dict[str, dict[int, float]] = {}
    for cap in _thresholds(payload, origin):
        percentile = re.search(r"-p(0?\.\d+|0|1)$", cap.experiment)
        key = f"{float(percentile[1]) * 100:g}" if percentile else UNKNOWN_PERCENTILE
        axis = directions.setdefault(cap.layer, cap.axis)
        floor = thresholds.setdefault(key, {}).setdefault(cap.layer, cap.floor)
        if not np.array_equal(axis, cap.axis) or floor != cap.floor:
            raise origin.error(
                f"its experiments give layer {cap.layer} different axes or caps, which are not one axis.",
                "Read the caps one by one with read_capping_config().",
            )
    if not directions:
        raise origin.error("it is a capping configuration without caps.")
    return origin.vector(
        directions,
        source=FORMAT,
        kind="axis",
        name=text(payload.get("name")) or None,
        sign=text(payload.get("sign")) or AXIS_SIGN,
        thresholds=thresholds,
    )


def _axis(value: object, origin: Import, metadata: object = None) -> SteeringVector:
    kind = origin.kind or "axis"
    settings = {} if metadata is None else {"original_metadata": plain(metadata)}
    said = metadata if isinstance(metadata, Mapping) else {}
    return origin.vector(
        _directions(value, origin, "the axis"),
        source=FORMAT,
        kind=kind,
        sign=text(said.get("sign")) or (AXIS_SIGN if kind == "axis" else f"+ is more of the {kind}"),
        name=text(said.get("name")) or None,
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
