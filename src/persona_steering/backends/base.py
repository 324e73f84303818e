"""The seam to the engines. Everything above it knows requests and results, never an engine.

A request carries all that concerns it: messages, recipe, sampling with its seed, what to capture, a schema. A
backend may serve many requests in one batch, and none of them can tell. What a backend cannot do it refuses by
name (`CapabilityError`); it never answers unsteered a request that asked for steering.

Layers are 0-based decoder blocks and activations are block outputs in the residual stream (see vectors.vector).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.tokens import (
    MAX_LOGPROBS,
    TokenChoice,
    TokenLogprob,
    TokenReading,
    TokenReadings,
    TokenScores,
    Trace,
)
from persona_steering.config.schema import GenerationConfig
from persona_steering.errors import CapabilityError, PersonaSteeringError, PromptError, UsageError
from persona_steering.interventions import Recipe
from persona_steering.vectors.vector import ModelIdentity

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "filtered"]  # filtered: cut by a remote server's own filter


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def conversation(prompt: str, system: str | None = None) -> tuple[Message, ...]:
    """The messages of a single question, with a system prompt or without any. Raises PromptError when empty."""
    if not prompt.strip():
        raise PromptError("the prompt is empty.", hint="Write something to answer.")
    head = (Message("system", system),) if system else ()
    return (*head, Message("user", prompt))


class Sampling(BaseModel):
    """How tokens are chosen. The text of a request depends on its own seed and on nothing else in the batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.7, ge=0, le=10, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @classmethod
    def configured(
        cls, settings: GenerationConfig, *, seed: int | None = None, max_new_tokens: int | None = None
    ) -> Self:
        """The configured sampling. Without a seed, given or configured, a fresh one is drawn."""
        chosen = settings.seed if seed is None else seed
        return cls(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=max_new_tokens or settings.max_new_tokens,
            seed=int(np.random.SeedSequence().generate_state(1)[0]) if chosen is None else chosen,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. `capture` lists the layers whose mean response activation is wanted.

    `logprobs` asks for the log-probability of every written token and for so many of the likeliest at its place (up
    to MAX_LOGPROBS): of the steered model's own distribution, before temperature and top-p. A schema counts as a part
    of the model: what it forbids has no probability.

    `trace` asks where each token lies along some directions. A token's reading is taken at its own position, where
    its state also counts for `capture`, and so once it has been fed back: the last token of an answer that was cut
    off, be it by length or a stop string, has none.

    `prompt` stands in for the messages: a text that the model goes on from as it stands, with no chat template. A BOS
    that the model wants is added unless it is written there.
    """

    messages: tuple[Message, ...]
    recipe: Recipe = field(default_factory=Recipe)
    sampling: Sampling = field(default_factory=Sampling)
    capture: tuple[int, ...] = ()
    schema: dict[str, JsonValue] | None = None
    logprobs: int | None = None
    trace: tuple[Trace, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A given answer to a conversation, for teacher forcing.

    `rendered` stands in for the messages where the prompt is at hand only as text that the model's own chat
    template has made of them, as in the files of the persona-vectors pipeline.
    """

    messages: tuple[Message, ...]
    response: str
    recipe: Recipe = field(default_factory=Recipe)
    rendered: str = ""


@dataclass(frozen=True, slots=True)
class Activations:
    """Pooled residual-stream activations of one answer, after the recipe's interventions.

    `mean` and `prompt_mean`, `prompt_last` where asked, map a layer to float32 `[hidden]`; `norms` maps a layer
    to the mean token norm. `tokens` is the number of response tokens behind the mean. With the ends, -1 stands for
    what enters layer 0, and the number of layers for what leaves the final norm; neither is a layer's output.
    """

    mean: dict[int, np.ndarray]
    norms: dict[int, float]
    tokens: int
    prompt_mean: dict[int, np.ndarray] = field(default_factory=dict)
    prompt_last: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request. `caps_engaged` counts (layer, token) pairs at which a floor or ceiling acted.

    A remote server tells no token ids, at best how many were `written`; `prompt_tokens` is 0 where it does not count
    them.

    Where log-probabilities or traces were asked for, `token_texts` has an entry for each of `token_ids`; so have
    `logprobs` and, by label, the `readings`: float32 `[tokens, 2]`, pre and post as in Projection, NaN where there is
    none. Where a stop string ends the answer, they cover its tokens too, which the text leaves out.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    recipe_hash: str
    activations: Activations | None = None
    caps_engaged: int = 0
    token_texts: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    readings: dict[str, np.ndarray] = field(default_factory=dict)
    written: int | None = None

    @property
    def tokens(self) -> int | None:
        """How many were written; None where nobody told."""
        if self.written is not None:
            return self.written
        return len(self.token_ids) if self.token_ids or not self.text else None


class Capabilities(BaseModel):
    """What a backend can do. Whatever is not listed is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interventions: frozenset[str]
    scopes: frozenset[str]
    stream: bool
    capture: bool
    score: bool
    schema_constrained: bool
    logprobs: bool
    trace: bool
    bare_prompt: bool = Field(description="goes on from a text that no chat template has made")


class ModelInfo(BaseModel):
    """What is loaded and where it runs. What nobody can see of a remote model is None, or empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(description="as the user names it")
    identity: ModelIdentity | None = Field(description="None for a remote model, whose layers cannot be seen")
    backend: str
    device: str = Field(description="for a remote model the server's address")
    dtype: str
    quantization: str | None
    context_length: int | None
    has_chat_template: bool
    layer_path: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is: `done` of `total` units of `phase`, and a line to show.

    Where the line is an answer of the model, `question` is what it answers.
    """

    phase: str
    done: int
    total: int
    sample: str = ""
    question: str = ""


ProgressCallback = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """The callback of somebody who does not want to know."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that enters a live batch, under a key of the caller's choice."""

    key: int
    request: Request


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step added to an answer, and at its end the completion.

    `tokens` are the ids written in this step: normally one, none where the turn ended. Counted over the pieces they
    number the tokens as `Completion.token_ids` does, and `token_texts` are their texts (see backends.tokens). `text`
    is what may be shown: it lags behind the tokens where it could yet become a stop string, and leaves that one out.
    `readings` are those that have become known, each with the index of its token, which may be one of an earlier piece.
    `error` is what broke off this answer alone; then the completion is what there was of it.
    """

    key: int
    text: str
    completion: Completion | None = None
    tokens: tuple[int, ...] = ()
    token_texts: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    readings: tuple[TokenReading, ...] = ()
    error: PersonaSteeringError | None = None


class LiveBatch(ABC):
    """Answers that are written together, while others come and go. For one thread at a time.

    Every answer is what `Backend.generate` would give for its request alone.
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many answers are being written."""

    @abstractmethod
    def admit(self, arrivals: Sequence[Arrival]) -> None:
        """Takes requests in. Raises as `Backend.generate` does, and then has taken none of them in."""

    @abstractmethod
    def advance(self) -> list[Piece]:
        """Writes one token of every answer."""

    @abstractmethod
    def steer(self, key: int, recipe: Recipe) -> int:
        """Gives an answer another recipe. Returns the place in it of the first token that the recipe has a say in.

        That token is chosen from the state of the one before it, which is the first that traces show steered anew.
        Raises NotFoundError when no answer with this key is being written.
        """

    @abstractmethod
    def stop(self, key: int) -> None:
        """Ends an answer as "cancelled"; its completion comes with the next `advance`. Raises NotFoundError."""


class Backend(ABC):
    """An engine with one model loaded. Use it as a context manager, or call `close`."""

    @property
    @abstractmethod
    def info(self) -> ModelInfo:
        """What is loaded and where it runs."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    @property
    def identity(self) -> ModelIdentity:
        """What tells the model from others. Raises CapabilityError for a remote one, whose layers cannot be seen."""
        info = self.info
        if info.identity is None:
            raise CapabilityError(
                f"{info.id!r} is text only: its layers can be neither seen nor steered.",
                hint="Steer a local model; a remote one can write data sets (--generator) and judge.",
            )
        return info.identity

    @abstractmethod
    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_done: Callable[[int, Completion], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        """Answers every request, in order. `on_done(index, completion)` is called as each one ends.

        `cancelled` is asked before the first token and after each; what was written until then is returned as
        "cancelled". Raises CapabilityError, PromptError (empty, too long), ModelMismatchError or ModelMemoryError.
        """

    @abstractmethod
    def stream(self, request: Request, *, cancelled: Callable[[], bool] | None = None) -> Iterator[str | Completion]:
        """Yields pieces of text as they are written, and the Completion last. The pieces join to its text."""

    @abstractmethod
    def capture(
        self, texts: Sequence[Text], *, layers: Sequence[int] | None = None, ends: bool = False
    ) -> list[Activations]:
        """Teacher-forced pooled activations of given answers, in order, at `layers` (all when None).

        `ends` adds what lies before the first layer and behind the last (see Activations).
        """

    @abstractmethod
    def score(self, texts: Sequence[Text]) -> list[TokenScores]:
        """Teacher-forced log-probabilities of given answers, in order."""

    def next_tokens(self, texts: Sequence[Text], *, top: int) -> list[tuple[TokenChoice, ...]]:
        """The `top` likeliest tokens after what is given of each answer, which may be nothing, likeliest first.

        Raises CapabilityError where the backend cannot tell.
        """
        raise CapabilityError(
            f"the {self.info.backend} backend does not tell how likely its next tokens are.", hint="Use a local model."
        )

    def readings(self, texts: Sequence[Text], traces: Sequence[Trace], *, prompt: bool = False) -> list[TokenReadings]:
        """Teacher-forced readings of every token of given answers, in order; with `prompt`, of the prompts' tokens too.

        With `prompt` an answer may be empty. Traces of one vector at many layers make a token's profile. Raises
        CapabilityError where the layers cannot be seen, and what `check_traces` raises.
        """
        raise CapabilityError(f"the {self.info.backend} backend cannot trace tokens.", hint="Use a local model.")

    def unembed(self, direction: np.ndarray, *, top: int) -> tuple[str, ...]:
        """The `top` tokens that a direction `[hidden]` speaks for most: the logit lens.

        The direction is put behind the last layer and read through the final norm and the unembedding; what these
        read out of nothing is taken off. Raises CapabilityError where the weights cannot be seen.
        """
        raise CapabilityError(
            f"the {self.info.backend} backend does not read tokens out of a direction.", hint="Use a local model."
        )

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the text that the model reads, its special tokens written out.

        Raises CapabilityError where only a server knows it, PromptError when there is none.
        """
        raise CapabilityError(
            f"the {self.info.backend} backend does not tell how it writes a prompt.", hint="Use a local model."
        )

    def live(self) -> LiveBatch:
        """A new batch that requests enter and leave at any time. Raises CapabilityError where there is none."""
        raise CapabilityError(f"the {self.info.backend} backend has no live batches.", hint="Use `generate`.")

    @abstractmethod
    def close(self) -> None:
        """Frees the model. Calling it twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, request: Request | Text) -> None:
        """Raises unless this backend and model can honour the recipe of `request`, and what else it asks for."""
        self._check_recipe(request.recipe)
        if isinstance(request, Request):
            self._check_wishes(request)

    def _check_recipe(self, recipe: Recipe) -> None:
        can = self.capabilities
        for item in recipe.interventions:
            if item.op not in can.interventions:
                raise CapabilityError(
                    f"the {self.info.backend} backend cannot {item.op}.",
                    hint=f"It can: {', '.join(sorted(can.interventions)) or 'nothing'}.",
                )
            if item.scope.kind not in can.scopes:
                raise CapabilityError(
                    f"scope {item.scope.kind!r} is not available with {self.info.id} on {self.info.backend}.",
                    hint=f"Available: {', '.join(sorted(can.scopes))}.",
                )
            item.vector.check_model(self.identity)

    def _check_wishes(self, request: Request) -> None:
        can, name = self.capabilities, self.info.backend
        if request.capture and not can.capture:
            raise CapabilityError(f"the {name} backend cannot capture activations.")
        if request.schema is not None and not can.schema_constrained:
            raise CapabilityError(f"the {name} backend cannot hold an answer to a JSON schema.")
        if request.logprobs is not None:
            if not can.logprobs:
                raise CapabilityError(f"the {name} backend does not tell log-probabilities.", hint="Use a local model.")
            if not 0 <= request.logprobs <= MAX_LOGPROBS:
                said = f"{request.logprobs} alternatives cannot be told at each token."
                raise UsageError(said, hint=f"Ask for 0 to {MAX_LOGPROBS}.")
        if request.trace:
            self.check_traces(request.trace)
        if request.prompt and not can.bare_prompt:
            raise CapabilityError(f"the {name} backend takes messages only.", hint="Send the text as a message.")

    def check_traces(self, traces: Sequence[Trace]) -> None:
        """Raises unless this backend and model can read them.

        Raises CapabilityError, UsageError for a label given twice, ModelMismatchError, RecipeError for a layer that
        the vector does not cover, VectorError for a direction of length zero.
        """
        if not self.capabilities.trace:
            raise CapabilityError(f"the {self.info.backend} backend cannot trace tokens.", hint="Use a local model.")
        labels = [trace.label for trace in traces]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise UsageError(f"two traces are called {twice[0]!r}.", hint="Give each a label of its own.")
        for trace in traces:
            trace.vector.check_model(self.identity)
            trace.vector.unit(trace.layer)
