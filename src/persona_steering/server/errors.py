"""Errors as clients see them: one envelope, `{"error": {message, type, param, code}}`, and nothing of the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from persona_steering.errors import (
    BusyError,
    CancelledError,
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
    StorageError,
    UsageError,
    VectorError,
    VersionError,
)

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "server_error",
]
RETRY_AFTER = 2  # seconds; an answer takes a few
_PATH = re.compile(r"(?<![\w.:/])(?!/api/v1/)(?:[A-Za-z]:)?(?:[\\/][\w.@~+-]+)*[\\/](?=[\w.@~+-])")


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="what is wrong, and what to do")
    type: ErrorType
    param: str | None = Field(default=None, description="the field of the request, such as steering.vectors[1].name")
    code: str
    hint: str | None = Field(default=None, description="what to do; it ends the message too")
    request_id: str | None = Field(default=None, description="as in x-request-id, under which the log speaks of it")


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: ErrorDetail


class ApiError(PersonaSteeringError):
    """A refusal whose status and code are known where it is raised."""

    def __init__(
        self,
        status: int,
        type_: ErrorType,
        code: str,
        message: str,
        *,
        param: str | None = None,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.type, self.code, self.param = status, type_, code, param
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class _Answer:
    """How one class of errors is answered."""

    status: int
    type: ErrorType
    code: str


# The first that fits. What is not here is the server's own fault: 500, and its words stay in the log.
_ANSWERS: tuple[tuple[type[PersonaSteeringError], _Answer], ...] = (
    (NotFoundError, _Answer(404, "not_found_error", "not_found")),
    (ContextLengthError, _Answer(400, "invalid_request_error", "context_length_exceeded")),
    (PromptError, _Answer(400, "invalid_request_error", "invalid_prompt")),
    (RecipeError, _Answer(400, "invalid_request_error", "invalid_steering")),
    (VersionError, _Answer(412, "invalid_request_error", "precondition_failed")),
    (ConflictError, _Answer(409, "invalid_request_error", "conflict")),
    (UsageError, _Answer(400, "invalid_request_error", "invalid_value")),
    (ModelMismatchError, _Answer(400, "invalid_request_error", "vector_model_mismatch")),
    (VectorError, _Answer(400, "invalid_request_error", "invalid_vector")),
    (CapabilityError, _Answer(400, "invalid_request_error", "unsupported")),
    (QualityError, _Answer(422, "invalid_request_error", "quality_not_met")),
    (ServerError, _Answer(502, "server_error", "upstream_failed")),
    (HeldError, _Answer(503, "server_error", "database_held")),
    (BusyError, _Answer(429, "rate_limit_error", "queue_full")),
    (CancelledError, _Answer(503, "server_error", "shutting_down")),
    (StorageError, _Answer(507, "server_error", "storage_failed")),
)


def as_api_error(error: PersonaSteeringError, *, param: str | None = None) -> ApiError:
    """The refusal that stands for an error of the engine."""
    if isinstance(error, ApiError):
        return error
    for kind, answer in _ANSWERS:
        if isinstance(error, kind):
            headers = {"retry-after": str(RETRY_AFTER)} if answer.status in (429, 503) else {}
            return ApiError(
                answer.status,
                answer.type,
                answer.code,
                without_paths(error.message),
                param=param,
                hint=without_paths(error.hint),
                headers=headers,
            )
    if isinstance(error, ModelMemoryError):
        return _failure(
            "out_of_memory", "the model ran out of memory.", "Ask for fewer tokens, or send a shorter text."
        )
    return internal_error()


def internal_error() -> ApiError:
    """What is said of a failure whose words may tell of the machine."""
    return _failure("internal_error", "the server failed.", "Its log has the reason, under the id in x-request-id.")


def _failure(code: str, message: str, hint: str) -> ApiError:
    # A client would otherwise ask for the same again at once, twice.
    return ApiError(500, "server_error", code, message, hint=hint, headers={"x-should-retry": "false"})


def body_of(error: ApiError, request_id: str | None = None) -> dict[str, object]:
    """The envelope."""
    detail = ErrorDetail(
        message=str(error),
        type=error.type,
        param=error.param,
        code=error.code,
        hint=error.hint or None,
        request_id=request_id,
    )
    return ErrorBody(error=detail).model_dump()


def without_paths(text: str) -> str:
    """A message with only the last part of every absolute path, but for those of the interface."""
    return _PATH.sub("", text)
