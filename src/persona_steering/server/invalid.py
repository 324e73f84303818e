"""What is said of a request that does not fit its form: the field that is wrong, and what was perhaps meant."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from persona_steering.errors import nearest
from persona_steering.server.errors import ApiError
from persona_steering.server.schemas.steering import (
    NUMBER,
    OBJECT,
    PERCENTILE,
    TEXT,
    CapRequest,
    SteeredVector,
    SteeringRequest,
    TraceRequest,
)

_PLACES = {"body", "query", "path", "header"}
_FORMS = {TEXT, OBJECT, PERCENTILE, NUMBER}
_MODELS: dict[str | int, type[BaseModel]] = {
    "steering": SteeringRequest,
    "vectors": SteeredVector,
    "caps": CapRequest,
    "trace": TraceRequest,
}


def as_refusal(error: RequestValidationError, body: object = None) -> ApiError:
    """400; pydantic's own account holds what was sent, and is not echoed. `body` is the model of the route's body."""
    found = error.errors()
    # a misspelt field says more than the one that is missing for it
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    place = [part for part in first["loc"] if part not in _FORMS]
    place = place[1:] if place[:1] and place[0] in _PLACES else place
    param, hint = _dotted(place), ""
    if first["type"] == "json_invalid":
        message, param = "the body is not valid JSON.", ""
    elif first["type"] == "extra_forbidden":
        message = f"unknown field {place[-1]!r} in {_dotted(place[:-1]) or 'the body'}."
        hint = nearest(str(place[-1]), _fields_at(place[:-1], body))
    else:
        said = str(first["msg"]).removeprefix("Value error, ")
        message = f"{param or 'the body'}: {said[:1].lower()}{said[1:]}"
        message += "" if message.endswith((".", "?")) else "."
    code = "invalid_steering" if "steering" in place else "invalid_value"
    return ApiError(400, "invalid_request_error", code, message, param=param or None, hint=hint)


def _fields_at(place: Sequence[str | int], body: object) -> Sequence[str]:
    """The fields there are at a place of the body, or inside `steering`; none are known elsewhere."""
    if "steering" in place:
        return tuple(next(_MODELS[part] for part in reversed(place) if part in _MODELS).model_fields)
    if not place and isinstance(body, type) and issubclass(body, BaseModel):
        return tuple(body.model_fields)
    return ()


def _dotted(place: Sequence[str | int]) -> str:
    """steering.vectors[1].name"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")
