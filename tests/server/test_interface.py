"""The published interface: every route says what it is, takes and answers, and how it refuses."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest

from persona_steering.server.app import interface
from persona_steering.server.door.security import UPLOADS
from persona_steering.server.examples import EXAMPLES
from persona_steering.server.published import METHODS, TAGS
from persona_steering.server.reference.aliases import successor

DOCUMENT = interface()
Operation = tuple[str, str, dict[str, Any]]
ALL: list[Operation] = [
    (method, path, item[method]) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item
]
OPEN = ("/healthz", "/readyz")
OURS = [one for one in ALL if successor(one[1]) is None and one[1] not in OPEN]
ERROR = "#/components/schemas/ErrorBody"
each = pytest.mark.parametrize(("method", "path", "operation"), ALL, ids=lambda value: str(value)[:60])
each_of_ours = pytest.mark.parametrize(("method", "path", "operation"), OURS, ids=lambda value: str(value)[:60])


def schema_of(content: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body, with what a reference stands for."""
    (kind,) = content.values()
    found: dict[str, Any] = kind.get("schema", {})
    if "$ref" in found:
        found = DOCUMENT["components"]["schemas"][found["$ref"].rpartition("/")[2]]
    return found


@each
def test_every_route_has_a_name_of_its_own_a_tag_and_a_description(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    assert re.fullmatch(r"[a-z]+([A-Z][a-z]*)+", operation["operationId"]), operation["operationId"]
    assert [one[2]["operationId"] for one in ALL].count(operation["operationId"]) == 1
    assert operation.get("tags") and set(operation["tags"]) <= set(TAGS)
    assert operation.get("description")


@each_of_ours
def test_every_route_declares_how_it_refuses_in_the_one_envelope(
    method: str, path: str, operation: dict[str, Any]
) -> None:
    responses = operation["responses"]
    assert {"401", "403", "500"} <= set(responses)
    if method in ("post", "put", "patch"):
        assert {"400", "413", "415"} <= set(responses)
    for status, response in responses.items():
        if status >= "400":
            assert response["description"], status
            assert response["content"]["application/json"]["schema"]["$ref"] == ERROR, status


@each_of_ours
def test_every_answer_has_a_form(method: str, path: str, operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if "200" <= status < "300" and status != "204":
            kinds = response.get("content", {})
            assert kinds, f"{status} has no content"
            if "application/json" in kinds:
                assert kinds["application/json"]["schema"], status


@each_of_ours
def test_every_body_has_an_example_that_fits_and_is_closed(method: str, path: str, operation: dict[str, Any]) -> None:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        assert path in UPLOADS or not content
        return
    schema = schema_of(content)
    examples = [content["application/json"].get("example"), *schema.get("examples", ())]
    given = [one for one in examples if one is not None]
    assert given, "give it one in examples.py"
    for example in given:
        jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, example)
    if not path.startswith("/v1/"):  # OpenAI's clients send more than this server knows
        assert schema.get("additionalProperties") is False or "oneOf" in schema or "anyOf" in schema


def test_every_example_is_of_an_operation_that_there_is() -> None:
    assert set(EXAMPLES) <= {operation["operationId"] for _, _, operation in ALL}


@each_of_ours
def test_every_parameter_says_what_it_is(method: str, path: str, operation: dict[str, Any]) -> None:
    obvious = {"limit", "after", "order", "status"}
    for parameter in operation.get("parameters", ()):
        named = parameter["in"] == "path" or parameter["name"] in obvious
        assert named or parameter.get("description"), parameter["name"]


def test_nothing_is_left_of_refusals_that_the_server_never_sends() -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(DOCUMENT["components"]["schemas"])


def test_clients_are_told_how_to_send_the_key() -> None:
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert DOCUMENT["security"] == [{}, {"key": []}]
