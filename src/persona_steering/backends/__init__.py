"""Engines behind one seam (`backends.base`). `load` imports the one that is asked for, late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from persona_steering.backends.base import Backend
from persona_steering.errors import UsageError, unknown


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    batch_size: int | None = None,
    cache: Path,
) -> Backend:
    """Loads a model: `embedded`, `embedded:gemma3`, `hf:ORG/MODEL`, a hub id, a folder, or `openai:URL#MODEL`.

    Raises NotFoundError for an unknown scheme, and what the backend's loading raises.
    """
    scheme, colon, rest = name.partition(":")
    if not colon:
        scheme = "embedded" if name == "embedded" else "hf"
        rest = name
    if scheme not in BACKENDS:
        raise unknown("engine", scheme, BACKENDS, hint="Write for instance hf:Qwen/Qwen2.5-7B-Instruct.")
    return BACKENDS[scheme](
        name if scheme == "embedded" else rest,
        device=device,
        dtype=dtype,
        quantization=quantization,
        revision=revision,
        trust_remote_code=trust_remote_code,
        batch_size=batch_size,
        cache=cache,
    )


def _transformers(
    name: str,
    *,
    device: str,
    dtype: str,
    quantization: str | None,
    revision: str | None,
    trust_remote_code: bool,
    batch_size: int | None,
    cache: Path,
) -> Backend:
    from persona_steering.backends.transformers.backend import TransformersBackend
    from persona_steering.backends.transformers.loading import load_model

    loaded = load_model(
        name,
        device=device,
        dtype=dtype,
        quantization=quantization,
        revision=revision,
        trust_remote_code=trust_remote_code,
        cache=cache,
    )
    return TransformersBackend(loaded, batch_size=batch_size)


def _openai(
    name: str,
    *,
    device: str,
    dtype: str,
    quantization: str | None,
    revision: str | None,
    trust_remote_code: bool,
    batch_size: int | None,
    cache: Path,
) -> Backend:
    from persona_steering.backends.openai import connect

    local = {"device": device != "auto", "dtype": dtype != "auto", "quantization": quantization, "revision": revision}
    if given := [option for option, value in local.items() if value]:
        raise UsageError(
            f"{' and '.join(given)} cannot be chosen for the remote model {name!r}.", hint="Its server decides."
        )
    return connect(name)


BACKENDS: dict[str, Callable[..., Backend]] = {"embedded": _transformers, "hf": _transformers, "openai": _openai}
