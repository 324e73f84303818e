"""From a chat request to what the engine takes: sampling, messages and schema."""

from __future__ import annotations

from dataclasses import replace

from pydantic import JsonValue

from persona_steering.backends.base import Message, Request, Role, Sampling
from persona_steering.server.errors import ApiError
from persona_steering.server.schemas.openai import ChatRequest, ResponseFormat
from persona_steering.server.serving import Serving
from persona_steering.server.steering import Steered

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def requests_of(body: ChatRequest, steered: Steered, serving: Serving) -> list[Request]:
    """One request for each of the `n` answers; their seeds follow each other. Raises ApiError."""
    _refuse_unsupported(body)
    request = Request(
        tuple(Message(_ROLES[message.role], message.text) for message in body.messages),
        recipe=steered.recipe,
        sampling=_sampling(body, serving),
        schema=_schema(body.response_format),
    )
    first = request.sampling.seed
    return [
        replace(request, sampling=request.sampling.model_copy(update={"seed": first + place}))
        for place in range(body.n or 1)
    ]


def _sampling(body: ChatRequest, serving: Serving) -> Sampling:
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    base = Sampling.configured(serving.config.generation, seed=body.seed, max_new_tokens=limit)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    changes: dict[str, object] = {"stop": stop}
    changes |= {key: value for key in ("temperature", "top_p") if (value := getattr(body, key)) is not None}
    return base.model_copy(update=changes)


def _schema(form: ResponseFormat | None) -> dict[str, JsonValue] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise ApiError(
            400,
            "invalid_request_error",
            "invalid_value",
            "response_format of type 'json_schema' has no schema.",
            param="response_format.json_schema",
        )
    return form.json_schema.schema_


def _refuse_unsupported(body: ChatRequest) -> None:
    for name in ("logprobs", "top_logprobs", "tools"):
        if getattr(body, name):
            raise ApiError(
                400,
                "invalid_request_error",
                "unsupported_parameter",
                f"this server does not support {name}.",
                param=name,
                hint="Leave it out.",
            )
