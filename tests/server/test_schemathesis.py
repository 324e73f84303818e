"""Requests made from the committed document: none is answered by a failure, and every answer is as declared.

The default run makes few requests of every operation, always the same. PERSONA_STEER_FUZZ=200 makes so many of each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.server.api import Api, make_state, running

from persona_steering.server.door.security import Door

EXAMPLES = int(os.environ.get("PERSONA_STEER_FUZZ", "2"))
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# The first never ends, the next take the model away that all others are asked of, the last write for a minute.
LEFT_OUT = ["followServer", "loadModel", "unloadModel", "loadReferenceModel", "previewPersona", "previewTrait"]

schema = schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text())).exclude(operation_id=LEFT_OUT)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    state = make_state(tmp_path_factory.mktemp("fuzzed"), deadline=0.2)
    state.jobs.start = lambda: None  # type: ignore[method-assign]  # jobs are taken, and would go on for minutes
    with running(state, Door.at("127.0.0.1")) as api:
        yield api


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES < 50,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_nothing_that_is_sent_makes_the_server_fail_or_answer_otherwise_than_declared(
    case: schemathesis.Case, api: Api
) -> None:
    case.call_and_validate(base_url=api.url, checks=CHECKS, timeout=30)
