"""Given texts, read token by token: along directions, and for what might have come next."""

from __future__ import annotations

import numpy as np

from persona_steering.backends.base import Backend, Message, Text
from persona_steering.backends.tokens import TokenReadings, Trace
from persona_steering.errors import UsageError
from persona_steering.interventions import Recipe
from persona_steering.server.answers.steering import resolve
from persona_steering.server.errors import ApiError
from persona_steering.server.model.serving import Serving
from persona_steering.server.schemas.conversations import PastMessage
from persona_steering.server.schemas.project import (
    Alternative,
    Alternatives,
    AlternativesRequest,
    ProjectedAxis,
    ProjectedText,
    ProjectedToken,
    ProjectRequest,
)
from persona_steering.server.state import ServerState
from persona_steering.vectors import SteeringVector
from persona_steering.vectors.metadata import known_percentiles

MAX_READINGS = 100_000  # pairs in one answer: a page of 2,000 tokens along one axis at 50 layers


def project(state: ServerState, body: ProjectRequest) -> ProjectedText:
    """Reads a text. Raises ApiError, and what the model says of text, layers and steering."""
    messages = body.messages or []
    with state.slot.lease() as (serving, backend):
        steered = resolve(body.steering, serving, state.presets)
        read = [(name, vector, layer) for name in body.axes for vector, layer in _places(serving, name, body.layers)]
        traces = [Trace(f"{name}/{layer}", vector, layer) for name, vector, layer in read]
        found = _read(backend, body, messages, traces, steered.recipe)
        owners = _owners(backend, messages, found)
    chosen = _chosen(body, len(found.texts), len(traces))
    values = {trace.label: _pairs(found.values[trace.label][chosen]) for trace in traces}
    tokens = [
        ProjectedToken(
            i=i,
            text=found.texts[i],
            message=(owner := owners[i]),
            role=messages[owner].role if owner is not None else None,
            readings={
                axis: {str(layer): values[f"{axis}/{layer}"][row] for name, _, layer in read if name == axis}
                for axis in body.axes
            },
        )
        for row, i in enumerate(chosen)
    ]
    axes = [
        ProjectedAxis(name=name, layer=layer, percentiles=_percentiles(vector, layer)) for name, vector, layer in read
    ]
    return ProjectedText(tokens=tokens, axes=axes, steering=steered.echo())


def alternatives(state: ServerState, body: AlternativesRequest) -> Alternatives:
    """The likeliest next tokens of an answer. Raises as `project`."""
    with state.slot.lease() as (serving, backend):
        steered = resolve(body.steering, serving, state.presets)
        text = Text(_messages(body.messages), body.answer_prefix, steered.recipe)
        (choices,) = backend.next_tokens([text], top=body.top)
    return Alternatives(
        alternatives=[Alternative(text=one.text, logprob=one.logprob) for one in choices],
        steering=steered.echo(),
    )


def _places(serving: Serving, name: str, layers: list[int] | None) -> list[tuple[SteeringVector, int]]:
    """An axis at each layer at which it is read. Raises ApiError for a layer that the model does not have."""
    vector, own = serving.reading(name)
    last = serving.num_layers - 1
    if layers and layers[-1] > last:
        message, hint = f"there is no layer {layers[-1]}.", f"Name layers from 0 to {last}."
        raise ApiError(400, "invalid_request_error", "layer_out_of_range", message, param="layers", hint=hint)
    return [(vector, layer) for layer in layers or [own]]


def _read(
    backend: Backend, body: ProjectRequest, messages: list[PastMessage], traces: list[Trace], recipe: Recipe
) -> TokenReadings:
    if body.text is not None:
        text = Text((), "", rendered=body.text)
    elif messages[-1].role == "assistant":
        text = Text(_messages(messages[:-1]), messages[-1].content, recipe)
    else:
        text = Text(_messages(messages), "", recipe)
    return backend.readings([text], traces, prompt=True)[0]


def _messages(given: list[PastMessage]) -> tuple[Message, ...]:
    return tuple(Message(one.role, one.content) for one in given)


def _chosen(body: ProjectRequest, tokens: int, traces: int) -> list[int]:
    """The places that are told of. Raises UsageError for too many, or for one that is none."""
    chosen = list(range(tokens)) if body.tokens is None else sorted(set(body.tokens))
    if chosen and chosen[-1] >= tokens:
        raise UsageError(f"there is no token {chosen[-1]}: the text has {tokens}.", hint="The first is 0.")
    if len(chosen) * traces > MAX_READINGS:
        raise UsageError(
            f"{len(chosen)} tokens along {traces} directions are more than {MAX_READINGS:,} readings.",
            hint="Name fewer layers or axes, or the tokens that are wanted.",
        )
    return chosen


def _pairs(values: np.ndarray) -> list[tuple[float, float]]:
    """In the fewest digits that are the same float32."""
    return [(float(str(pre)), float(str(post))) for pre, post in values]


def _percentiles(vector: SteeringVector, layer: int) -> dict[str, float] | None:
    known = known_percentiles(vector.metadata.thresholds)
    return {f"{percent:g}": at[layer] for percent, at in known.items() if layer in at} or None


def _owners(backend: Backend, messages: list[PastMessage], found: TokenReadings) -> list[int | None]:
    """Which message each token is of: that of its first character. None for those of the chat template."""
    owners: list[int | None] = [None] * len(found.texts)
    answered = bool(messages) and messages[-1].role == "assistant"
    prompt = "".join(found.texts[: found.prompt_tokens])
    spans = _spans(backend, prompt, messages[:-1] if answered else messages) if messages else []
    start = 0
    for i, text in enumerate(found.texts[: found.prompt_tokens]):
        owners[i] = next((k for k, (low, high) in enumerate(spans) if low <= start < high), None)
        start += len(text)
    if answered:
        owners[found.prompt_tokens :] = [len(messages) - 1] * (len(found.texts) - found.prompt_tokens)
    return owners


def _spans(backend: Backend, prompt: str, messages: list[PastMessage]) -> list[tuple[int, int]]:
    """Where each message stands in the prompt; nothing where that cannot be told for sure.

    The template is rendered with marks in the place of the messages, and what stands between the marks is its own.
    """
    marks = [f"\ue000{k}\ue001" for k in range(len(messages))]
    frame = backend.render([Message(one.role, mark) for one, mark in zip(messages, marks, strict=True)])
    for contents in ([one.content for one in messages], [one.content.strip() for one in messages]):
        spans, text, rest = [], "", frame
        for mark, content in zip(marks, contents, strict=True):
            before, found, rest = rest.partition(mark)
            if not found:
                return []
            text += before
            spans.append((len(text), len(text) + len(content)))
            text += content
        if (offset := prompt.find(text + rest)) >= 0:  # a BOS may stand before it
            return [(low + offset, high + offset) for low, high in spans]
    return []
