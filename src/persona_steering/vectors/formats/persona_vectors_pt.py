"""persona_vectors `.pt`: a bare tensor `[L + 1, hidden]`, row `k` = layer `k - 1`, + = more of the trait.

Row 0 (the embeddings) and row L (after the final norm) are no block's output: they are dropped when read and
zero when written. There are no metadata in the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from persona_steering.vectors.formats.foreign import Array, Import, known_model, load_pt, rows, save_pt, stack_layers
from persona_steering.vectors.metadata import ModelIdentity
from persona_steering.vectors.vector import SteeringVector, layer_from_persona_vectors_row

FORMAT = "persona_vectors"


def read(path: Path, *, name: str | None = None, model: ModelIdentity | None = None) -> SteeringVector:
    """Layers 0 to L-2 of the file. Raises: NotFoundError, VectorFileError."""
    return parse(load_pt(path), Import(path, name=name, model=model))


def parse(payload: object, origin: Import) -> SteeringVector:
    """The vector in a loaded file. Raises: VectorFileError."""
    tensor = rows(origin, payload, "its content")
    num_layers = tensor.shape[0] - 1
    if num_layers < 2:
        raise origin.error(f"{tensor.shape[0]} rows hold no layer of a persona_vectors file.")
    if origin.model and origin.model.num_layers != num_layers:
        raise origin.error(
            f"{tensor.shape[0]} rows are a model of {num_layers} layers in persona_vectors' layout, "
            f"but the model is {origin.model}.",
            "Name the model that it was made for, or another convention.",
        )
    directions = {}
    for row in range(tensor.shape[0]):
        layer = layer_from_persona_vectors_row(row, num_layers)
        if layer is not None:
            directions[layer] = tensor[row]
    return origin.vector(
        directions, source=FORMAT, kind="trait", sign="+ is more of the trait", pooling=_pooling(origin.path)
    )


def write(path: Path, vector: SteeringVector) -> None:
    """Write `[L + 1, hidden]`, atomically.

    Raises: VectorError when one of layers 0 to L-2 is missing or the model is unknown, StorageError.
    """
    num_layers = known_model(vector, source=FORMAT).num_layers
    tensor = np.zeros((num_layers + 1, vector.hidden_size), dtype=np.float32)
    tensor[1:num_layers] = stack_layers(vector, num_layers - 1, source=FORMAT)
    write_rows(path, tensor)


def write_rows(path: Path, rows: Array) -> None:
    """Write `[L + 1, hidden]` whose first and last row were measured too, atomically. Raises: StorageError."""
    save_pt(path, rows)


def _pooling(path: Path) -> str:
    """The tool's own file names say how the tokens were pooled."""
    names = {
        "_prompt_avg_diff": "prompt_mean",
        "_prompt_last_diff": "prompt_last",
        "_response_avg_diff": "response_mean",
    }
    return next((pooling for suffix, pooling in names.items() if path.stem.endswith(suffix)), "unknown")
