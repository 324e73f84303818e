"""From a request to what the engine takes: messages or prompts, sampling, schema, and what is to be told of tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from pydantic import JsonValue

from persona_steering.backends.base import Message, Request, Role
from persona_steering.server.answers.asking import sampling_of
from persona_steering.server.answers.steering import Steered
from persona_steering.server.errors import ApiError
from persona_steering.server.limits import LIMITS
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.openai import ChatRequest, CompletionRequest, ResponseFormat

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def chat_requests(body: ChatRequest, steered: Steered, serving: Serving) -> list[Request]:
    """One request for each of the `n` answers; their seeds follow each other. Raises ApiError."""
    if body.tools:
        raise _unsupported("tools")
    if body.top_logprobs is not None and not body.logprobs:
        raise _refusal("invalid_value", "top_logprobs wants logprobs.", "top_logprobs", 'Send "logprobs": true too.')
    request = Request(
        tuple(Message(_ROLES[message.role], message.text) for message in body.messages),
        recipe=steered.recipe,
        sampling=sampling_of(body, serving.config, limit=body.max_completion_tokens),
        schema=_schema(body.response_format),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        trace=steered.readings,
    )
    return _seeded([request], body.n or 1)


def text_requests(body: CompletionRequest, steered: Steered, serving: Serving) -> list[Request]:
    """One request for each of the `n` continuations of each prompt. Raises ApiError."""
    count = body.n or 1
    if body.suffix:
        raise _unsupported("suffix")
    if body.best_of is not None and body.best_of != count:
        raise _unsupported("best_of")
    if body.echo and body.logprobs is not None:
        message = "echo and logprobs do not go together: the prompt's own are not measured."
        raise _refusal("unsupported_parameter", message, "echo", "Leave one of them out.")
    if len(body.prompt) * count > LIMITS.rows:
        message = f"{len(body.prompt)} prompts with {count} answers each are more than {LIMITS.rows}."
        raise _refusal("invalid_value", message, "prompt", "Send fewer at once.")
    request = Request(
        (),
        recipe=steered.recipe,
        sampling=sampling_of(body, serving.config),
        logprobs=body.logprobs,
        trace=steered.readings,
    )
    return _seeded([replace(request, prompt=prompt) for prompt in body.prompt], count)


def _seeded(requests: Sequence[Request], count: int) -> list[Request]:
    """Each of them so many times, under seeds that follow each other."""
    return [
        replace(request, sampling=request.sampling.model_copy(update={"seed": request.sampling.seed + place}))
        for request in requests
        for place in range(count)
    ]


def _schema(form: ResponseFormat | None) -> dict[str, JsonValue] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        message = "response_format of type 'json_schema' has no schema."
        raise _refusal("invalid_value", message, "response_format.json_schema", "Send it as json_schema.schema.")
    if len(json.dumps(form.json_schema.schema_)) > LIMITS.schema_bytes:  # everybody waits while it is compiled
        message = f"the JSON schema has more than {LIMITS.schema_bytes} bytes."
        raise _refusal("invalid_value", message, "response_format.json_schema", "Simplify the schema.")
    return form.json_schema.schema_


def _unsupported(name: str) -> ApiError:
    return _refusal("unsupported_parameter", f"this server does not support {name}.", name, "Leave it out.")


def _refusal(code: str, message: str, param: str, hint: str) -> ApiError:
    return ApiError(400, "invalid_request_error", code, message, param=param, hint=hint)
