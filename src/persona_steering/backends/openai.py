"""Any OpenAI-compatible server as a backend: text only, to write data sets and to judge.

Ollama, LM Studio, vLLM, llama.cpp's server and hosted models all answer `POST {base_url}/chat/completions`. Their
layers cannot be seen, so a recipe, a capture or a score is refused by name.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from persona_steering.backends.base import (
    Activations,
    Backend,
    Capabilities,
    Completion,
    FinishReason,
    ModelInfo,
    Request,
    Sampling,
    Text,
)
from persona_steering.backends.http import HttpClient
from persona_steering.backends.pool import Pool
from persona_steering.backends.tokens import TokenChoice, TokenScores
from persona_steering.errors import (
    CancelledError,
    CapabilityError,
    ConfigError,
    ModelError,
    ServerError,
    ServerRefusalError,
    UsageError,
)

PATH = "chat/completions"
MAX_TOP = 20  # log-probabilities of the first token that such a server tells
_FINISHED: dict[object, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "filtered"}


def connect(address: str, *, api_key_env: str = "", concurrency: int = 8) -> OpenAIBackend:
    """The backend of "URL#MODEL", with the key that the environment variable `api_key_env` holds, if one is named.

    Raises UsageError for an address that is none, ConfigError for a variable that is not set.
    """
    url, mark, model = address.partition("#")
    if not mark or not model.strip():
        raise UsageError(
            f"{address!r} does not name a model.",
            hint="Write URL#MODEL, for instance openai:http://localhost:11434/v1#qwen2.5:14b.",
        )
    key = os.environ.get(api_key_env, "").strip() if api_key_env else None
    if api_key_env and not key:
        raise ConfigError(
            f"the environment variable {api_key_env} is not set.",
            hint=f"Put the server's key into {api_key_env}, or clear the setting api_key_env.",
        )
    return OpenAIBackend(url, model.strip(), api_key=key, concurrency=concurrency)


class OpenAIBackend(Backend):
    """`model` at `base_url`. At most `concurrency` requests run at once; `timeout` bounds each attempt, in seconds.

    A server that refuses `response_format` is remembered as one that holds no schema, and CapabilityError says so.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 4,
        concurrency: int = 8,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = HttpClient(
            base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            connections=concurrency,
            sleep=sleep,
        )
        self._model, self._concurrency = model, concurrency
        self._holds_schemas, self._limit_name, self._closed = True, "max_tokens", False
        self._tokens_used, self._counting = 0, threading.Lock()

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            id=f"openai:{self.client.address}#{self._model}",
            identity=None,
            backend="openai",
            device=self.client.address,
            dtype="",
            quantization=None,
            context_length=None,
            has_chat_template=True,
            layer_path="",
        )

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            interventions=frozenset(),
            scopes=frozenset(),
            stream=True,
            capture=False,
            score=False,
            schema_constrained=self._holds_schemas,
            logprobs=False,
            trace=False,
            bare_prompt=False,
        )

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_done: Callable[[int, Completion], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        """As in `Backend`. Where one request fails for good, those already under way are waited for first."""
        self._check_open()
        for request in requests:
            self.check(request)
        pool = Pool(self._answer, requests, self._concurrency)
        done: dict[int, Completion] = {}
        failed: Exception | None = None
        with pool:
            for index, result in pool.results(cancelled):
                if isinstance(result, Completion):
                    done[index] = result
                    if on_done is not None:
                        on_done(index, result)
                elif not isinstance(result, CancelledError):
                    failed = failed or result
        if failed is not None:
            raise failed
        return [done.get(i) or _cancelled(request) for i, request in enumerate(requests)]

    def stream(self, request: Request, *, cancelled: Callable[[], bool] | None = None) -> Iterator[str | Completion]:
        self._check_open()
        self.check(request)
        return self._pieces(request, cancelled)

    def capture(
        self, texts: Sequence[Text], *, layers: Sequence[int] | None = None, ends: bool = False
    ) -> list[Activations]:
        raise CapabilityError("the openai backend cannot capture activations.", hint="Use a local model.")

    def score(self, texts: Sequence[Text]) -> list[TokenScores]:
        raise CapabilityError("the openai backend cannot score given answers.", hint="Use a local model.")

    def next_tokens(self, texts: Sequence[Text], *, top: int) -> list[tuple[TokenChoice, ...]]:
        """As in `Backend`, for answers that have not begun; a server tells at most 20 choices.

        Raises CapabilityError also where the server gives no log-probabilities.
        """
        self._check_open()
        if any(text.response or text.rendered for text in texts):
            raise CapabilityError("the openai backend cannot continue a given answer.", hint="Use a local model.")
        return [self._first_token(text, min(top, MAX_TOP)) for text in texts]

    @property
    def tokens_used(self) -> int:
        """Prompt and answer tokens of all requests so far, as the server counts them."""
        return self._tokens_used

    def close(self) -> None:
        self._closed = True
        self.client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError("the connection has been closed.", hint="Connect again.")

    def _answer(self, request: Request, cancelled: Callable[[], bool]) -> Completion:
        answer = self._ask(request, lambda body: self.client.post(PATH, body, cancelled=cancelled))
        choice = self._choice(answer)
        message = choice.get("message")
        if not isinstance(message, dict) or not isinstance(message.get("content", 0), str | None):
            raise self._strange("a message without text", answer)
        text = message["content"] or ""  # null where nothing but thoughts was written
        return self._completion(request, text, self._finish(choice.get("finish_reason"), answer), answer)

    def _first_token(self, text: Text, top: int) -> tuple[TokenChoice, ...]:
        self.check(text)
        request = Request(text.messages, sampling=Sampling(temperature=0, max_new_tokens=1))
        asked = {"logprobs": True, "top_logprobs": top}
        try:
            answer = self._ask(request, lambda body: self.client.post(PATH, body | asked))
        except ServerRefusalError as error:
            if error.status in (400, 422) and "logprob" in error.said:
                raise self._without_logprobs(error.said) from error
            raise
        self._count(answer)
        found = self._choice(answer).get("logprobs")
        content = found.get("content") if isinstance(found, dict) else None
        if not content:
            raise self._without_logprobs("its answers hold none")
        try:
            return tuple(TokenChoice(str(one["token"]), float(one["logprob"])) for one in content[0]["top_logprobs"])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise self._strange("log-probabilities in a form of its own", answer) from error

    def _without_logprobs(self, why: str) -> CapabilityError:
        return CapabilityError(
            f"{self.client.address} gives no log-probabilities ({why}).", hint="Sample several answers instead."
        )

    def _count(self, answer: dict[str, Any]) -> int:
        """Adds up the tokens of an answer, and returns those of its prompt."""
        usage = answer.get("usage")
        counts = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")] if isinstance(usage, dict) else []
        known = [count for count in counts if isinstance(count, int)]
        with self._counting:
            self._tokens_used += sum(known)
        return known[0] if known and known[0] is counts[0] else 0

    def _pieces(self, request: Request, cancelled: Callable[[], bool] | None) -> Iterator[str | Completion]:
        events = self._ask(
            request, lambda body: self.client.stream(PATH, {**body, "stream": True}, cancelled=cancelled)
        )
        text, finish = "", None
        for event in events:
            if not event.get("choices"):
                continue  # counts of tokens, at the end
            choice = self._choice(event)
            piece = (choice.get("delta") or {}).get("content") or ""
            if piece:
                text += piece
                yield piece
            if choice.get("finish_reason") is not None:
                finish = self._finish(choice["finish_reason"], event)
            if cancelled is not None and cancelled():
                finish = finish or "cancelled"
                break
        if finish is None:
            raise ServerError(f"the stream of {self.client.address} ended before the answer did.", hint="Ask again.")
        yield self._completion(request, text, finish, {})

    def _ask(self, request: Request, send: Callable[[dict[str, Any]], Any]) -> Any:
        """What the server answers, asked once more where it only wants the limit of tokens by its newer name."""
        limit_name = self._limit_name
        try:
            return send(self._body(request, limit_name))
        except ServerRefusalError as error:
            if error.status not in (400, 422):
                raise
            if request.schema is not None and _is_about_schemas(error.said):
                self._holds_schemas = False
                raise CapabilityError(
                    f"{self.client.address} cannot hold an answer to a JSON schema: {error.said}.",
                    hint="Ask in words instead, or use a server with response_format.",
                ) from error
            if limit_name != "max_tokens" or "max_completion_tokens" not in error.said:
                raise
        self._limit_name = "max_completion_tokens"
        return send(self._body(request, self._limit_name))

    def _body(self, request: Request, limit_name: str) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            limit_name: sampling.max_new_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.schema is not None:
            form = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def _choice(self, answer: dict[str, Any]) -> dict[str, Any]:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._strange("no choices", answer)
        return choices[0]

    def _finish(self, reason: object, answer: dict[str, Any]) -> FinishReason:
        if reason not in _FINISHED:
            raise self._strange(f"the finish_reason {reason!r}", answer)
        return _FINISHED[reason]

    def _completion(self, request: Request, text: str, finish: FinishReason, answer: dict[str, Any]) -> Completion:
        return Completion(
            text=text,
            token_ids=(),
            finish_reason=finish,
            prompt_tokens=self._count(answer),
            recipe_hash=request.recipe.hash,
        )

    def _strange(self, what: str, answer: dict[str, Any]) -> ServerError:
        keys = ", ".join(sorted(map(str, answer))) or "nothing"
        return ServerError(
            f"{self.client.address} answered with {what} (its answer holds: {keys}).",
            hint="Is this an OpenAI-compatible server?",
        )


def _is_about_schemas(said: str) -> bool:
    return any(word in said.casefold() for word in ("response_format", "json_schema", "schema", "grammar"))


def _cancelled(request: Request) -> Completion:
    return Completion("", (), "cancelled", 0, request.recipe.hash)
