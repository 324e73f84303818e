"""A server's refusals as errors of the tree: same words, same exit codes as where the model runs here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from persona_steering.errors import (
    BusyError,
    CapabilityError,
    ConflictError,
    ContextLengthError,
    HeldError,
    ModelMemoryError,
    ModelMismatchError,
    NotFoundError,
    PersonaSteeringError,
    PromptError,
    QualityError,
    RecipeError,
    ServerError,
    ServerRefusalError,
    StorageError,
    UsageError,
    VectorError,
)

_SHOWN = 300  # characters of what something else than our server says
_BY_CODE: dict[str, type[PersonaSteeringError]] = {
    "invalid_prompt": PromptError,
    "context_length_exceeded": ContextLengthError,
    "invalid_steering": RecipeError,
    "vector_model_mismatch": ModelMismatchError,
    "invalid_vector": VectorError,
    "unsupported": CapabilityError,
    "quality_not_met": QualityError,
    "safety_axis_missing": NotFoundError,
    "out_of_memory": ModelMemoryError,
    "storage_failed": StorageError,
    "model_loading": BusyError,
    "shutting_down": BusyError,
    "database_held": HeldError,
}
_BY_STATUS: dict[int, type[PersonaSteeringError]] = {
    400: UsageError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    413: UsageError,
    422: UsageError,
    429: BusyError,
    507: StorageError,
}


def refusal(status: int, body: bytes, headers: Mapping[str, str], url: str) -> PersonaSteeringError:
    """The error that a status and a body stand for."""
    detail = _detail(body)
    if detail is None:
        said = " ".join(body.decode(errors="replace").split())[:_SHOWN]
        return ServerRefusalError(
            f"{url} answered with status {status} and {said!r}.",
            status=status,
            said=said,
            hint="Is it a persona-steering server of this version?",
        )
    return error_of(detail, status=status, retry_after=_number(headers.get("retry-after")))


def error_of(detail: Mapping[str, Any], *, status: int = 500, retry_after: float | None = None) -> PersonaSteeringError:
    """The error of an envelope's `error`. In a stream there is no status: its code then says what it is."""
    message, hint = str(detail.get("message") or "the server refused."), str(detail.get("hint") or "")
    if hint and message.endswith(hint):
        message = message.removesuffix(hint).rstrip()
    if status == 401:
        hint = "Give its key with --api-key or in PERSONA_STEER_API_KEY."
    kind = _BY_CODE.get(str(detail.get("code"))) or _BY_STATUS.get(status)
    if kind is None:
        return ServerRefusalError(message, status=status, said=message, retry_after=retry_after, hint=hint)
    return kind(message, hint=hint)


def strange(what: str, url: str) -> ServerError:
    """For an answer that is not what was agreed."""
    return ServerError(f"the server at {url} answered {what}.", hint="Is it a persona-steering server of this version?")


def _detail(body: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = value.get("error") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else None


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None
