"""The reference engine: any decoder that transformers loads, on CPU, CUDA or MPS."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from persona_steering.backends.base import (
    Activations,
    Backend,
    Capabilities,
    Completion,
    LiveBatch,
    Message,
    ModelInfo,
    Request,
    Text,
)
from persona_steering.backends.tokens import TokenChoice, TokenReadings, TokenScores, Trace
from persona_steering.backends.transformers.batching import CPU_TOKENS, auto_batch_size, memory_error, run_in_batches
from persona_steering.backends.transformers.decoding import DecodingBatch
from persona_steering.backends.transformers.forcing import (
    EncodedText,
    capture_batch,
    encode_text,
    next_token_batch,
    read_batch,
    score_batch,
)
from persona_steering.backends.transformers.forward import Runner
from persona_steering.backends.transformers.live import RollingBatch
from persona_steering.backends.transformers.loading import LoadedModel
from persona_steering.backends.transformers.schema import SchemaCompiler
from persona_steering.backends.transformers.streaming import AnswerStream
from persona_steering.errors import ModelError, RecipeError, UsageError
from persona_steering.interventions import INTERVENTIONS

Job = tuple[int, Request, list[int]]


class TransformersBackend(Backend):
    """`batch_size` None sizes batches to the device's memory."""

    def __init__(self, loaded: LoadedModel, *, batch_size: int | None = None) -> None:
        self._loaded: LoadedModel | None = loaded
        self._runner = Runner(loaded)
        self._schemas = SchemaCompiler(loaded.encoder.tokenizer, loaded.stop_ids)
        self._batch_size = batch_size

    @property
    def loaded(self) -> LoadedModel:
        """The model and its tokenizer. Raises ModelError once closed."""
        if self._loaded is None:
            raise ModelError("the model has been closed.", hint="Load it again.")
        return self._loaded

    @property
    def info(self) -> ModelInfo:
        loaded = self.loaded
        return ModelInfo(
            id=loaded.identity.id,
            identity=loaded.identity,
            backend="transformers",
            device=str(loaded.device),
            dtype=str(loaded.dtype).removeprefix("torch."),
            quantization=loaded.quantization,
            context_length=loaded.context_length,
            has_chat_template=loaded.encoder.has_template,
            layer_path=loaded.layers.path,
        )

    @property
    def capabilities(self) -> Capabilities:
        scopes = {"response", "prompt", "all", "tokens"}
        if self.loaded.encoder.thinking_marks:
            scopes.add("thinking")
        return Capabilities(
            interventions=frozenset(INTERVENTIONS),
            scopes=frozenset(scopes),
            stream=True,
            capture=True,
            score=True,
            schema_constrained=True,
            logprobs=True,
            trace=True,
            bare_prompt=True,
        )

    def generate(
        self,
        requests: Sequence[Request],
        *,
        on_done: Callable[[int, Completion], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Completion]:
        def work(jobs: Sequence[Job]) -> list[Completion]:
            done = DecodingBatch(self._runner, jobs, self._schemas).run(cancelled)
            if on_done is not None:
                for index, completion in sorted(done.items()):
                    on_done(index, completion)
            return [done[index] for index, _, _ in jobs]

        jobs = [self._job(i, request) for i, request in enumerate(requests)]
        return run_in_batches(
            jobs,
            work,
            length=lambda job: (job[1].capture, job[1].sampling.max_new_tokens, len(job[2])),
            batch_size=lambda waiting: self._size(
                max(len(prompt) + request.sampling.max_new_tokens for _, request, prompt in waiting)
            ),
        )

    def stream(self, request: Request, *, cancelled: Callable[[], bool] | None = None) -> Iterator[str | Completion]:
        batch = DecodingBatch(self._runner, [self._job(0, request)], self._schemas)
        return self._pieces(batch, cancelled)

    def live(self) -> LiveBatch:
        def open_batch(indexed: Sequence[tuple[int, Request]]) -> DecodingBatch:
            jobs = [self._job(key, request) for key, request in indexed]
            return DecodingBatch(self._runner, jobs, self._schemas, linger=False)

        return RollingBatch(open_batch, self.loaded.encoder)

    def capture(
        self, texts: Sequence[Text], *, layers: Sequence[int] | None = None, ends: bool = False
    ) -> list[Activations]:
        count = len(self.loaded.layers.blocks)
        wanted = tuple(range(count)) if layers is None else tuple(layers)
        self._check_layers(wanted)
        if ends:
            wanted = (-1, *wanted, count)
        return run_in_batches(
            self._encode(texts),
            lambda batch: capture_batch(self._runner, batch, wanted),
            length=_by_prompt,
            batch_size=self._capture_size,
        )

    def score(self, texts: Sequence[Text]) -> list[TokenScores]:
        return run_in_batches(
            self._encode(texts),
            lambda batch: score_batch(self._runner, batch),
            length=_by_prompt,
            batch_size=lambda waiting: self._size(max(map(_length, waiting))),
        )

    def next_tokens(self, texts: Sequence[Text], *, top: int) -> list[tuple[TokenChoice, ...]]:
        return run_in_batches(
            self._encode(texts, may_be_empty=True),
            lambda batch: next_token_batch(self._runner, batch, top),
            length=_by_prompt,
            batch_size=lambda waiting: self._size(max(map(_length, waiting))),
        )

    def readings(self, texts: Sequence[Text], traces: Sequence[Trace], *, prompt: bool = False) -> list[TokenReadings]:
        if not traces:
            raise UsageError("no direction was named to read along.", hint="Name a vector and a layer.")
        self.check_traces(traces)
        return run_in_batches(
            self._encode(texts, may_be_empty=prompt),
            lambda batch: read_batch(self._runner, batch, traces, prompt=prompt),
            length=_by_prompt,
            batch_size=lambda waiting: self._size(max(map(_length, waiting))),
        )

    def unembed(self, direction: np.ndarray, *, top: int) -> tuple[str, ...]:
        # The final norm forgets the length, but for a small constant that a short direction would vanish beside.
        unit = torch.from_numpy(np.array(direction, np.float32) / np.linalg.norm(direction)) * len(direction) ** 0.5
        spoken, nothing = self._runner.read_out(torch.stack([unit, torch.zeros_like(unit)])).float()
        tokenizer = self.loaded.encoder.tokenizer
        special = set(tokenizer.all_special_ids)
        order = torch.argsort(spoken - nothing, descending=True).tolist()
        known = (i for i in order if i < len(tokenizer) and i not in special)
        return tuple(tokenizer.decode([i]) for i in itertools.islice(known, top))

    def render(self, messages: Sequence[Message]) -> str:
        return self.loaded.encoder.render(messages)

    def close(self) -> None:
        if self._loaded is None:
            return
        self._loaded = None
        del self._runner
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _job(self, index: int, request: Request) -> Job:
        self.check(request)
        self._check_layers(request.capture)
        if request.schema is not None:
            self._check_schema(request)
        encoder, room = self.loaded.encoder, request.sampling.max_new_tokens
        if request.prompt:
            return index, request, encoder.encode_bare(request.prompt, room=room)
        return index, request, encoder.encode(request.messages, room=room)

    def _check_schema(self, request: Request) -> None:
        """Refuses a schema before anything is generated, and stop strings beside it, which could break its JSON."""
        if request.sampling.stop:
            raise UsageError("a request with a schema takes no stop strings.", hint="Leave `stop` empty.")
        self._schemas.matcher(request.schema or {})

    def _encode(self, texts: Sequence[Text], *, may_be_empty: bool = False) -> list[EncodedText]:
        for text in texts:
            self.check(text)
        return [encode_text(self.loaded, text, may_be_empty=may_be_empty) for text in texts]

    def _check_layers(self, layers: Sequence[int]) -> None:
        count = len(self.loaded.layers.blocks)
        for layer in layers:
            if not 0 <= layer < count:
                raise RecipeError(f"the model has no layer {layer}.", hint=f"Its layers are 0 to {count - 1}.")

    def _capture_size(self, waiting: Sequence[EncodedText]) -> int:
        size = self._size(max(map(_length, waiting)))
        if self._batch_size is not None or self.loaded.device.type != "cpu":
            return size
        repeated = 2 * len({item.group for item in waiting}) <= len(waiting)
        computed = max(len(item.response) if repeated else _length(item) for item in waiting)
        return max(4, min(size, CPU_TOKENS // computed))

    def _size(self, tokens_per_row: int) -> int:
        return self._batch_size or auto_batch_size(self.loaded, tokens_per_row)

    def _pieces(self, batch: DecodingBatch, cancelled: Callable[[], bool] | None) -> Iterator[str | Completion]:
        (row,) = batch.rows
        answer = AnswerStream(row, self.loaded.encoder)
        with memory_error("a single row"):
            for _ in batch.steps(cancelled):
                if row.finish is not None:
                    break
                if text := answer.piece(row).text:
                    yield text
        completion = batch.done[0]
        if rest := answer.end(completion).text:
            yield rest
        yield completion


def _by_prompt(item: EncodedText) -> tuple[object, ...]:
    # answers to one prompt stay together, so that its cache is computed once
    return len(item.prompt), item.group, len(item.response)


def _length(item: EncodedText) -> int:
    return len(item.prompt) + len(item.response)
