"""The service of a model behind a server: the same questions and answers as `LocalService`, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import JsonValue, ValidationError

from persona_steering.backends.base import Completion, FinishReason, Message, ModelInfo, Sampling
from persona_steering.config import Config
from persona_steering.engine.remote.client import ApiClient
from persona_steering.engine.remote.refusals import error_of, strange
from persona_steering.engine.service import Action, Plan, SteeringService
from persona_steering.errors import BusyError, ServerError
from persona_steering.interventions import Recipe
from persona_steering.vectors import ModelIdentity, check_name

_FINISHED: dict[object, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "filtered"}
_DONE = "[DONE]"
_MOST = 100  # items of a page
_AT_ONCE = 8  # answers that are asked for side by side


class RemoteService(SteeringService):
    """Answers with the model of the server that `client` asks.

    Every answer is checked against its plan: one that was not steered as planned is an error, never shown as if it
    had been.
    """

    def __init__(self, client: ApiClient, config: Config) -> None:
        self._client, self._config = client, config

    @cached_property
    def model(self) -> ModelInfo:
        return model_of(self._client)

    def plan(self, blend: Mapping[str, float], *, safety: bool | None = None) -> Plan:
        safe = self._config.steering.safety if safety is None else safety
        found = None
        if blend:
            steering = {**_vectors(blend), "safety": safe}
            found = self._client.send("POST", "/api/v1/steering/validate", {"steering": steering})
        try:
            return _plan(blend, found)
        except (KeyError, TypeError) as error:
            raise strange(f"without {error}", self._client.url) from error

    def stream(
        self,
        messages: Sequence[Message],
        plan: Plan,
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[str | Completion]:
        writing = _Writing(plan, self._client.url)
        asked = self._asked(messages, plan, sampling)
        for event in self._client.events("POST", "/v1/chat/completions", asked, cancelled=cancelled):
            if event.data == _DONE:
                break
            if piece := writing.take(event.json()):
                yield piece
        yield writing.completion(stopped=cancelled is not None and cancelled())

    def answers(
        self,
        messages: Sequence[Message],
        plans: Sequence[Plan],
        *,
        sampling: Sampling,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        def answer(plan: Plan) -> Completion:
            *_, last = self.stream(messages, plan, sampling=sampling, cancelled=cancelled)
            assert isinstance(last, Completion)
            return last

        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:  # the server writes them in one batch
            return list(pool.map(answer, plans))

    def available(self) -> list[str]:
        return sorted(str(one["name"]) for one in self._vectors() if one.get("status") != "broken")

    def loaded(self) -> list[str]:
        return [str(name) for name in self._client.get("/api/v1/memory")["loaded"]]

    def load(self, name: str) -> None:
        self._client.send("POST", f"/api/v1/memory/{check_name(name)}")

    def unload(self, name: str) -> None:
        self._client.send("DELETE", f"/api/v1/memory/{check_name(name)}")

    def _vectors(self) -> Iterator[Mapping[str, Any]]:
        for noun in ("personas", "traits"):
            yield from pages(self._client, f"/api/v1/{noun}")

    def _asked(self, messages: Sequence[Message], plan: Plan, sampling: Sampling) -> dict[str, object]:
        steering = {"steering": {**_vectors(plan.blend), "safety": plan.safety}} if plan.recipe else {}
        return {
            "model": self.model.id,  # and not whatever is loaded by then
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            **steering,
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop) or None,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def model_of(client: ApiClient) -> ModelInfo:
    """What is loaded there. Raises BusyError while it is being loaded, ServerError where there is none."""
    system = client.get("/api/v1/system")
    found, slot = system.get("model"), system.get("slot") or {}
    if found is None and slot.get("state") == "loading":
        raise BusyError(f"the server at {client.url} is loading {slot.get('model')!r}.", hint="Try again in a moment.")
    if found is None:
        raise ServerError(
            f"the server at {client.url} has no model.", hint="Load one there; or use one here with --local."
        )
    try:
        return _model(found)
    except (KeyError, ValidationError) as error:
        raise strange("with a model that cannot be read", client.url) from error


def _model(found: Mapping[str, Any]) -> ModelInfo:
    identity = ModelIdentity(
        id=found["id"],
        fingerprint=found["fingerprint"],
        model_type=found["type"],
        num_layers=found["layers"],
        hidden_size=found["hidden_size"],
    )
    same = ("id", "backend", "device", "dtype", "quantization", "context_length", "has_chat_template")
    return ModelInfo.model_validate({**{key: found[key] for key in same}, "identity": identity, "layer_path": ""})


def pages(client: ApiClient, path: str, **query: object) -> Iterator[Mapping[str, Any]]:
    """The items of a list, of all its pages."""
    after: object = None
    while True:
        page = client.get(path, limit=_MOST, after=after, **query)
        yield from page["data"]
        if not page.get("has_more"):
            return
        after = page["last_id"]


@dataclass
class _Writing:
    """One answer, as its chunks come."""

    plan: Plan
    url: str
    text: list[str] = field(default_factory=list)
    finish: FinishReason | None = None
    hash: str | None = None
    caps_engaged: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)

    def take(self, chunk: Mapping[str, Any]) -> str:
        """The text of a chunk. Raises what went wrong with the answer."""
        if "error" in chunk:
            raise error_of(chunk["error"])
        steering = chunk.get("steering") or {}
        self.hash = steering.get("hash", self.hash)
        self.caps_engaged = steering.get("caps_engaged") or self.caps_engaged
        self.usage = chunk.get("usage") or self.usage
        piece = ""
        for choice in chunk.get("choices") or ():
            piece = choice["delta"].get("content") or ""
            if piece:
                self._check()
                self.text.append(piece)
            if choice.get("finish_reason") is not None:
                self.finish = _FINISHED.get(choice["finish_reason"], "stop")
        return piece

    def completion(self, *, stopped: bool) -> Completion:
        """The answer as it stands. Raises ServerError where it broke off."""
        if self.finish is None and not stopped:
            raise ServerError(f"the server at {self.url} ended before the answer did.", hint="Ask again.")
        if not stopped:
            self._check()
        return Completion(
            text="".join(self.text),
            token_ids=(),
            finish_reason=self.finish or "cancelled",
            prompt_tokens=int(self.usage.get("prompt_tokens", 0)),
            recipe_hash=self.plan.recipe_hash,
            caps_engaged=self.caps_engaged,
            written=self.usage.get("completion_tokens"),
        )

    def _check(self) -> None:
        if self.plan.recipe and self.hash != self.plan.recipe_hash:
            raise ServerError(
                f"the server at {self.url} steers otherwise than it was planned.",
                hint="A vector, or the model, was changed meanwhile. Ask again.",
            )


def _plan(blend: Mapping[str, float], found: Mapping[str, Any] | None) -> Plan:
    steering = found["steering"] if found is not None else None
    warnings = tuple(found["warnings"]) if found is not None else ()
    if steering is None:
        return Plan(dict(blend), safety=False, warnings=warnings, recipe=[], recipe_hash=Recipe().hash, actions=())
    additions = [Action("add", one["name"], tuple(one["layers"]), one["relative_dose"]) for one in steering["applied"]]
    bounds = [Action(one["op"], one["axis"], tuple(one["layers"])) for one in steering["caps"]]
    recipe: list[JsonValue] = steering["recipe"]
    return Plan(dict(blend), steering["safety"], warnings, recipe, steering["hash"], (*additions, *bounds))


def _vectors(blend: Mapping[str, float]) -> dict[str, object]:
    return {"vectors": [{"name": name, "coefficient": strength} for name, strength in blend.items()]}
