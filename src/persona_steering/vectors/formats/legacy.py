"""The vector files of the two earlier systems: layer `i` is the output of block `i`, not all are there.

    .pt    {"raw_vector", "per_layer_vectors": {layer: [hidden]}, "layers", "name", ...}   persona
           the same with "opposite"                                                        trait
           {"vector", "per_layer_vectors", "layers", "num_samples", ...}                   baseline (a mean)
           {"vector", "floor", "layers", ...}                                              axis with its floor
    JSON   {"model_id", "trait_id", "vectors": {"layer_0": [hidden]}, ...}                 trait

`per_layer_vectors` is what steers. `vector` (a mean over layers, used at each of `layers`) is read only where
there is nothing else. Absolute paths of the author's disk are dropped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from persona_steering.vectors.files import read_bytes, write_atomically
from persona_steering.vectors.formats.foreign import Array, Import, describe, load_pt, plain, save_pt, text
from persona_steering.vectors.metadata import UNKNOWN_PERCENTILE, ModelIdentity, VectorKind, known_percentiles
from persona_steering.vectors.vector import SteeringVector

FORMAT_PT = "legacy-pt"
FORMAT_JSON = "legacy-json"

# read into fields of their own, or made of tensors
_CONSUMED = {
    "raw_vector",
    "safe_vector",
    "vector",
    "per_layer_vectors",
    "layers",
    "name",
    "description",
    "opposite",
}

MAX_JSON = 64 * 1024 * 1024  # bytes; 80 layers of 8192 values take 15 MB


def read_pt(path: Path, *, name: str | None = None, model: ModelIdentity | None = None) -> SteeringVector:
    """One of the `.pt` layouts above. Raises: NotFoundError, VectorFileError."""
    return parse_pt(load_pt(path), Import(path, name=name, model=model))


def read_json(path: Path, *, name: str | None = None, model: ModelIdentity | None = None) -> SteeringVector:
    """The JSON layout above. Raises: NotFoundError, VectorFileError."""
    return parse_json(load_json(path), Import(path, name=name, model=model))


def write_pt(path: Path, vector: SteeringVector) -> None:
    """Write the `.pt` layout of the vector's kind, atomically; what is not known is left out of it.

    Of several floors of an axis the lowest percentile is written. Raises: StorageError, DependencyError.
    """
    metadata = vector.metadata
    mean = np.mean([v.astype(np.float64) for v in vector.directions.values()], axis=0)
    payload: dict[str, object] = {
        "per_layer_vectors": dict(vector.directions),
        "layers": list(vector.layers),
        "source": metadata.source,
        "metadata": {"model": metadata.model.id} if metadata.model else {},
    }
    if metadata.kind in ("persona", "trait"):
        payload |= {"raw_vector": mean.astype(np.float32), "name": vector.name, "description": metadata.description}
        payload |= {"num_system_prompts": len(metadata.system_prompts), "vector_magnitude": float(np.linalg.norm(mean))}
    else:
        payload["vector"] = mean.astype(np.float32)
    if metadata.kind == "trait":
        payload["opposite"] = metadata.opposite
    if metadata.kind == "axis":
        percentile, floor = next(iter(known_percentiles(metadata.thresholds).items()), (None, None))
        payload["floor"] = dict(floor or metadata.thresholds.get(UNKNOWN_PERCENTILE, {})) or None
        payload |= {"percentile": percentile} if percentile is not None else {}
    save_pt(path, payload)


def write_json(path: Path, vector: SteeringVector) -> None:
    """Write the JSON layout, atomically; no effectiveness was measured, so none is given. Raises: StorageError."""
    metadata = vector.metadata
    counts = {"num_layers_processed": len(vector.layers)}
    payload = {
        "model_id": metadata.model.id if metadata.model else "",
        "trait_id": vector.name,
        "generated_at": metadata.created,
        "vectors": {f"layer_{layer}": v.astype(np.float64).tolist() for layer, v in vector.directions.items()},
        "effectiveness_scores": {},
        "metadata": counts,
    }
    write_atomically(path, json.dumps(payload).encode())


def is_legacy_pt(payload: object) -> bool:
    """Whether a loaded `.pt` has one of the layouts above."""
    if not isinstance(payload, Mapping):
        return False
    return "per_layer_vectors" in payload or {"vector", "layers"} <= payload.keys()


def parse_pt(payload: object, origin: Import) -> SteeringVector:
    """The vector in a loaded `.pt`. Raises: VectorFileError."""
    if not isinstance(payload, Mapping) or not is_legacy_pt(payload):
        raise origin.error(f"it is {describe(payload)}, not a vector of an earlier system.")
    directions = _directions(payload, origin)
    kind = _kind(payload)
    signs: dict[VectorKind, str] = {
        "persona": "+ is more of the persona",
        "trait": "+ is more of the trait",
        "axis": "+ is safe",
        "baseline": "a mean activation, not a difference",
    }
    counts = {
        key: value
        for key, value in payload.items()
        if isinstance(key, str) and key.startswith("num_") and isinstance(value, int) and not isinstance(value, bool)
    }
    return origin.vector(
        directions,
        source=FORMAT_PT,
        kind=kind,
        sign=signs[kind],
        name=text(payload.get("name")) or None,
        description=text(payload.get("description")),
        opposite=text(payload.get("opposite")),
        counts=counts,
        thresholds=_thresholds(payload, directions, origin),
        settings={"original": plain({k: v for k, v in payload.items() if k not in _CONSUMED | counts.keys()})},
    )


def load_json(path: Path) -> object:
    """A JSON file. Raises: NotFoundError, VectorFileError."""
    data = read_bytes(path, MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise Import(path).error(f"it has more than {MAX_JSON} bytes, which no vector needs.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Import(path).error("it is not valid JSON, or truncated.", "Copy it again from its source.") from exc


def parse_json(payload: object, origin: Import) -> SteeringVector:
    """The vector in a loaded JSON file. Raises: VectorFileError."""
    if not isinstance(payload, Mapping) or not isinstance(payload.get("vectors"), Mapping):
        raise origin.error(f"it is {describe(payload)}; a JSON vector file has 'vectors'.")
    directions: dict[int, Array] = {}
    for key, values in payload["vectors"].items():
        match = re.fullmatch(r"layer_(0|[1-9]\d{0,4})", key)
        if match is None:
            raise origin.error(f"{key!r} is not a layer; they are 'layer_0', 'layer_1', ...")
        directions[int(match[1])] = _floats(values, origin, key)
    metadata = payload.get("metadata")
    counts = {
        str(k): v
        for k, v in (metadata.items() if isinstance(metadata, Mapping) else ())
        if isinstance(v, int) and not isinstance(v, bool)
    }
    kept = {"model_id": "original_model", "effectiveness_scores": "effectiveness_scores"}
    settings = {ours: plain(payload[theirs]) for theirs, ours in kept.items() if payload.get(theirs)}
    return origin.vector(
        directions,
        source=FORMAT_JSON,
        kind="trait",
        sign="+ is more of the trait",
        name=text(payload.get("trait_id")) or None,
        counts=counts,
        settings=settings,
    )


def _kind(payload: Mapping[object, object]) -> VectorKind:
    if "floor" in payload:
        return "axis"
    if "opposite" in payload:
        return "trait"
    return "persona" if "raw_vector" in payload or "name" in payload else "baseline"


def _directions(payload: Mapping[object, object], origin: Import) -> dict[int, Array]:
    per_layer = payload.get("per_layer_vectors")
    if isinstance(per_layer, Mapping) and per_layer:
        return {_layer(key, origin): _tensor(value, origin, f"layer {key}") for key, value in per_layer.items()}
    layers, vector = payload.get("layers"), payload.get("vector")
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers or not isinstance(vector, np.ndarray):
        raise origin.error("it has no 'per_layer_vectors', and no 'vector' with 'layers'.")
    numbers = [_layer(layer, origin) for layer in layers]
    if vector.ndim == 2 and vector.shape[0] == len(numbers):
        return dict(zip(numbers, vector, strict=True))
    return dict.fromkeys(numbers, _tensor(vector, origin, "the vector"))


def _layer(key: object, origin: Import) -> int:
    if isinstance(key, str) and key.isdecimal() and len(key) < 6:
        return int(key)
    if isinstance(key, int) and not isinstance(key, bool) and key >= 0:
        return key
    raise origin.error(f"{key!r} is not a layer number.")


def _tensor(value: object, origin: Import, what: str) -> Array:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.size == 0:
        raise origin.error(f"{what} is {describe(value)}, not a tensor [hidden].")
    return value


def _floats(values: object, origin: Import, what: str) -> Array:
    if not isinstance(values, list) or not values:
        raise origin.error(f"{what} is {describe(values)}, not a list of numbers.")
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in values):
        raise origin.error(f"{what} holds something that is not a number.")
    try:
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused when the vector is made
            return np.array([float(x) for x in values], dtype=np.float64).astype(np.float32)
    except OverflowError as exc:
        raise origin.error(f"{what} holds a number that is too large.") from exc


def _thresholds(
    payload: Mapping[object, object], directions: Mapping[int, Array], origin: Import
) -> dict[str, dict[int, float]]:
    """The floor as projections on the unit axis, under its percentile if the file says which that is."""
    floor = payload.get("floor")
    if floor is None:
        return {}
    per_layer = (
        {_layer(key, origin): value for key, value in floor.items()}
        if isinstance(floor, Mapping)
        else dict.fromkeys(directions, floor)
    )
    floors: dict[int, float] = {}
    for layer, value in per_layer.items():
        number = float(value.reshape(())) if isinstance(value, np.ndarray) and value.size == 1 else value
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise origin.error(f"the floor at layer {layer} is {number!r}, not a finite number.")
        floors[layer] = float(number)
    percentile = payload.get("percentile", payload.get("floor_percentile"))
    known = isinstance(percentile, (int, float)) and not isinstance(percentile, bool)
    return {f"{percentile:g}" if known else UNKNOWN_PERCENTILE: floors}
