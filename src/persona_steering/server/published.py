"""The interface as it is published: /openapi.json, and docs/openapi.json, of which the page's types are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from persona_steering.server.examples import EXAMPLES
from persona_steering.server.schemas.conversations import (
    Failed,
    Finished,
    LaneAnswer,
    Started,
    StartedLanes,
    WrittenToken,
)
from persona_steering.server.schemas.events import ServerEvent
from persona_steering.server.schemas.jobs import PublicJobEvent
from persona_steering.server.schemas.live import LiveReply, LiveRequest
from persona_steering.server.schemas.openai import ChatChunk, TextChunk
from persona_steering.vectors.metadata import package_version

METHODS = ("get", "post", "put", "patch", "delete")
TAGS = {
    "openai": "What OpenAI's clients know: models, and answers of any model or persona.",
    "steering": "What steers an answer, checked without writing one.",
    "presets": "Steering under a name.",
    "personas": "Characters, and their vectors.",
    "traits": "Dimensions of behaviour, and their vectors.",
    "axes": "Directions of the model itself.",
    "library": "What ships with the package, and what comes in from files.",
    "conversations": "Trees of messages that are kept.",
    "compare": "One question answered under several recipes at once.",
    "project": "Texts read along directions, token by token.",
    "live": "Answers that are steered while they are written.",
    "measuring": "What vectors do, measured by jobs.",
    "runs": "Results that were measured.",
    "jobs": "Long work, and the events that tell of it.",
    "models": "The one model that is loaded, and those that could be.",
    "system": "What the server is, has and does.",
    "metrics": "Counters for a monitoring system.",
    "health": "Whether the server lives, and takes requests.",
    "earlier systems": "Deprecated paths, under which the clients of two earlier systems find everything again.",
}
# What is sent in other forms than JSON answers: events and frames. Routes refer to them by name.
SENT: tuple[type[BaseModel], ...] = (
    ChatChunk,
    TextChunk,
    PublicJobEvent,
    ServerEvent,
    Started,
    WrittenToken,
    Finished,
    Failed,
    StartedLanes,
    LaneAnswer,
    LiveReply,
)
TAKEN: tuple[type[BaseModel], ...] = (LiveRequest,)  # frames that clients send
_INVALID = "HTTPValidationError"  # FastAPI's own refusal, which this server never sends: see invalid.py


class PublishedApi(FastAPI):
    """An application that tells of itself what FastAPI does not know."""

    def __init__(self, **options: Any) -> None:
        # the pages of documentation would load scripts from elsewhere
        super().__init__(
            title="persona-steering",
            version=package_version() or "0",
            summary="A language model that is steered by measured personas and traits, for any OpenAI client.",
            license_info={"name": "MIT", "identifier": "MIT"},
            docs_url=None,
            redoc_url=None,
            **options,
        )

    def openapi(self) -> dict[str, Any]:
        """The document. Made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            operations = [item[method] for item in document["paths"].values() for method in METHODS if method in item]
            for operation in operations:
                _drop_foreign_refusal(operation)
                if (example := EXAMPLES.get(operation["operationId"])) is not None:
                    operation["requestBody"]["content"]["application/json"]["example"] = example
            used = {tag for operation in operations for tag in operation.get("tags", ())}
            document["tags"] = [{"name": tag, "description": text} for tag, text in TAGS.items() if tag in used]
            parts = document["components"]
            for name, schema in (_schemas_of(SENT, "serialization") | _schemas_of(TAKEN, "validation")).items():
                parts["schemas"].setdefault(name, schema)
            for name in (_INVALID, "ValidationError"):
                parts["schemas"].pop(name, None)
            parts["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer", "description": "the key, where the server asks for one"}
            }
            document["security"] = [{}, {"key": []}]
        return self.openapi_schema or {}


def _schemas_of(models: Sequence[type[BaseModel]], mode: JsonSchemaMode) -> dict[str, Any]:
    """The schemas of models and of all that they are made of."""
    place = "#/components/schemas/{model}"
    _, found = models_json_schema([(model, mode) for model in models], ref_template=place)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _drop_foreign_refusal(operation: dict[str, Any]) -> None:
    refused = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if refused.get("$ref", "").endswith(f"/{_INVALID}"):
        del operation["responses"]["422"]
