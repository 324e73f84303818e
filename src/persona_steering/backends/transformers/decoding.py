"""The decoding loop of one batch: every row with its own recipe, sampling, seed, stop and capture.

A finished row stays in the batch until half of the rows are done; then the batch is cut down to those that still
write. Between two tokens other rows may join, and a row's recipe may change. Activations are summed in the same
forwards that write the answer: the tokens that were generated and fed back, without end-of-turn and thinking tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from persona_steering.backends.base import Activations, Completion, FinishReason, Request
from persona_steering.backends.transformers.caches import can_join, join_caches
from persona_steering.backends.transformers.forward import Runner, pad_left
from persona_steering.backends.transformers.hooks import Plan, Pool, make_plan
from persona_steering.backends.transformers.logprobs import Chance, chances, told
from persona_steering.backends.transformers.prompts import ThinkingTracker
from persona_steering.backends.transformers.reading import Tracer, labelled
from persona_steering.backends.transformers.sampling import Sampler
from persona_steering.backends.transformers.schema import HeldRows, SchemaCompiler
from persona_steering.backends.transformers.text import token_texts
from persona_steering.errors import PersonaSteeringError
from persona_steering.interventions import Recipe


@dataclass
class Row:
    """One request on its way."""

    index: int  # in the caller's list
    request: Request
    prompt: list[int]
    thoughts: ThinkingTracker
    written: list[int] = field(default_factory=list)
    chances: list[Chance] = field(default_factory=list)  # of each written token, where asked
    readings: list[np.ndarray] = field(default_factory=list)  # of each token that was fed back, `[traces, 2]`
    captured: int = 0
    finish: FinishReason | None = None


class DecodingBatch:
    """Decodes a few requests together: call `run()`, iterate `steps()`, or `start()` and `advance()` by hand."""

    def __init__(
        self,
        runner: Runner,
        indexed: Sequence[tuple[int, Request, list[int]]],
        schemas: SchemaCompiler,
        *,
        linger: bool = True,
    ) -> None:
        """`linger` False settles every row as it ends, for those who wait for single rows."""
        self._runner, loaded, self._linger = runner, runner.loaded, linger
        self._loaded = loaded
        marks = loaded.encoder.thinking_marks
        self.rows = [Row(i, request, prompt, ThinkingTracker(marks, prompt)) for i, request, prompt in indexed]
        self.done: dict[int, Completion] = {}
        self.failed: dict[int, PersonaSteeringError] = {}  # why a row in `done` broke off, where rows settle alone
        requests = [row.request for row in self.rows]
        self._sampler = Sampler([request.sampling for request in requests], loaded.device)
        self._held = HeldRows([schemas.matcher(r.schema) if r.schema is not None else None for r in requests])
        self._plan = self._make_plan()
        self._tracer = self._make_tracer()
        layers = sorted({layer for request in requests for layer in request.capture})
        self._pools = [Pool(layers, len(self.rows), hidden=loaded.hidden_size, device=loaded.device)] if layers else []
        self._cache = runner.new_cache()
        self._width = 0

    def run(self, cancelled: Callable[[], bool] | None = None) -> dict[int, Completion]:
        """Decodes to the end. Completions by the caller's index."""
        for _ in self.steps(cancelled):
            pass
        return self.done

    def steps(self, cancelled: Callable[[], bool] | None = None) -> Iterator[list[Row]]:
        """Writes one token per live row and yields the rows that were live, until every row has finished.

        `cancelled` is asked before the first forward too, so that the batches still waiting cost nothing.
        """
        if self._cancel(cancelled):
            self._drop_finished()
            return
        self.start()
        while self.rows:
            yield self.advance(cancelled)

    def start(self) -> None:
        """Computes the prompts."""
        self._logits = self._prefill()

    def advance(self, cancelled: Callable[[], bool] | None = None) -> list[Row]:
        """Writes one token per live row and returns the rows that were live. Finished ones are in `done` in the end."""
        tokens, found = self._choose(self._logits)
        live = [row for row in self.rows if row.finish is None]
        for i, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if row.finish is None:
                if i in self._held.broken:
                    self._break_off(row, self._held.broken[i])
                else:
                    self._write(row, token, found.get(i), complete=self._held.feed(i, token))
                if row.finish is not None:
                    self._held.release(i)
        self._cancel(cancelled)
        self._drop_finished()
        if self.rows:
            self._logits = self._feed()
        return live

    @property
    def can_join(self) -> bool:
        """Whether rows of other batches can join: not where the model keeps more than keys and values."""
        return can_join(self._cache)

    def join(self, other: DecodingBatch) -> None:
        """Takes over the rows of `other`. Both have been started, and the next token of every row is yet to come."""
        self._mask = self._joined_mask(other)
        self._width = max(self._width, other._width)
        self._logits = torch.cat([self._logits, other._logits])
        join_caches(self._cache, other._cache)
        self._sampler.join(other._sampler)
        self._held.join(other._held)
        self._join_pools(other)
        self.rows += other.rows
        engaged = torch.cat([self._plan.engaged, other._plan.engaged])
        self._plan = self._make_plan(engaged)
        self._tracer = self._make_tracer()

    def steer(self, index: int, recipe: Recipe) -> int:
        """Gives the row with the caller's `index` another recipe from its next fed token on.

        Returns the place, in its answer, of the first token that the new recipe has a say in.
        """
        (row,) = (row for row in self.rows if row.index == index)
        row.request = replace(row.request, recipe=recipe)
        self._plan = self._make_plan(self._plan.engaged)
        return len(row.written) + 1  # the next one was decided by the forward that has been

    def stop(self, index: int) -> None:
        """Ends the row with the caller's `index` as it stands."""
        for i, row in enumerate(self.rows):
            if row.index == index and row.finish is None:
                row.finish = "cancelled"
                self._held.release(i)

    def _make_plan(self, engaged: torch.Tensor | None = None) -> Plan:
        plan = make_plan(
            [row.request.recipe for row in self.rows],
            [len(row.prompt) for row in self.rows],
            hidden=self._loaded.hidden_size,
            device=self._loaded.device,
            dtype=self._loaded.dtype,
        )
        if engaged is not None:
            plan.engaged = engaged
        return plan

    def _make_tracer(self) -> Tracer | None:
        traces = [row.request.trace for row in self.rows]
        return Tracer(traces, hidden=self._loaded.hidden_size, device=self._loaded.device) if any(traces) else None

    def _joined_mask(self, other: DecodingBatch) -> torch.Tensor:
        rows = [*self.rows, *other.rows]
        width, left = max(self._width, other._width), max(map(_tokens_left, rows))
        mask = torch.ones(len(rows), width + left, dtype=torch.int64, device=self._loaded.device)
        start = 0
        for batch in (self, other):
            own = mask[start : start + len(batch.rows)]
            own[:, : width - batch._width] = 0
            own[:, width - batch._width : width] = batch._mask[:, : batch._width]
            start += len(batch.rows)
        return mask

    def _join_pools(self, other: DecodingBatch) -> None:
        if not (self._pools or other._pools):
            return
        loaded = self._loaded
        own, new = (
            (batch._pools or [Pool([], len(batch.rows), hidden=loaded.hidden_size, device=loaded.device)])[0]
            for batch in (self, other)
        )
        self._pools = [own.joined(new)]

    def _cancel(self, cancelled: Callable[[], bool] | None) -> bool:
        if cancelled is None or not cancelled():
            return False
        for row in self.rows:
            row.finish = row.finish or "cancelled"
        return True

    def _prefill(self) -> torch.Tensor:
        loaded = self._loaded
        ids, positions = pad_left([row.prompt for row in self.rows], loaded.pad_id)
        longest = max(row.request.sampling.max_new_tokens for row in self.rows)
        self._mask = torch.ones(len(self.rows), ids.shape[1] + longest, dtype=torch.int64, device=loaded.device)
        self._mask[:, : ids.shape[1]] = torch.from_numpy((positions >= 0).astype(np.int64)).to(loaded.device)
        self._width = ids.shape[1]
        for pool in self._pools:
            pool.begin(np.zeros_like(positions, dtype=bool))
        return self._forward(ids, positions, np.zeros_like(positions, dtype=bool))

    def _feed(self) -> torch.Tensor:
        """Feeds the tokens just written back, and yields the logits of the next ones."""
        ids = np.array([[row.written[-1] if row.finish is None else self._loaded.pad_id] for row in self.rows])
        live = np.array([[row.finish is None] for row in self.rows])
        # A finished row is fed padding: no intervention acts, and its positions cannot run past the context.
        positions = np.where(live, [[len(row.prompt) + len(row.written) - 1] for row in self.rows], -1)
        thinking = np.array([[row.finish is None and row.thoughts.feed(row.written[-1])] for row in self.rows])
        counted = live & ~thinking
        for row, counts in zip(self.rows, counted[:, 0], strict=True):
            row.captured += int(counts)
        for pool in self._pools:
            pool.begin(counted)
        self._width += 1
        logits = self._forward(ids, positions, thinking, self._tracer)
        self._keep_readings()
        return logits

    def _keep_readings(self) -> None:
        if self._tracer is None:
            return
        for i, values in zip(self._tracer.rows, self._tracer.take(), strict=True):
            if self.rows[i].finish is None:
                self.rows[i].readings.append(values[:, 0])

    def _forward(
        self, ids: np.ndarray, positions: np.ndarray, thinking: np.ndarray, tracer: Tracer | None = None
    ) -> torch.Tensor:
        logits = self._runner(
            ids,
            positions,
            self._mask[:, : self._width],
            plan=self._plan,
            thinking=thinking,
            pools=self._pools,
            tracer=tracer,
            cache=self._cache,
        )
        return logits[:, -1]

    def _choose(self, logits: torch.Tensor) -> tuple[list[int], dict[int, Chance]]:
        """The next token of every row, of those that its schema allows where it has one; and by row its chances."""
        steps = [min(len(row.written), row.request.sampling.max_new_tokens - 1) for row in self.rows]
        if self._held:
            logits = self._held.allow(logits)
            tokens = self._held.settle(self._sampler(logits, steps), logits)
        else:
            tokens = self._sampler(logits, steps)
        found = chances(logits, tokens, [row.request.logprobs for row in self.rows])
        return tokens.tolist(), found

    def _write(self, row: Row, token: int, chance: Chance | None, *, complete: bool) -> None:
        """Takes a row's next token. `complete`: its schema lets nothing follow."""
        if token in self._loaded.stop_ids:
            row.finish = "stop"
            return
        row.written.append(token)
        if chance is not None:
            row.chances.append(chance)
        sampling = row.request.sampling
        if complete or (sampling.stop and self._stop_position(row) is not None):
            row.finish = "stop"
        elif len(row.written) >= sampling.max_new_tokens:
            row.finish = "length"

    def _break_off(self, row: Row, error: PersonaSteeringError) -> None:
        """Ends one row with what broke it, which is nothing to its neighbours; where all are waited for, raises it."""
        if self._linger:
            raise error
        row.finish, self.failed[row.index] = "cancelled", error

    def _stop_position(self, row: Row) -> int | None:
        text = self._loaded.encoder.decode(row.written)
        found = [text.find(stop) for stop in row.request.sampling.stop if stop in text]
        return min(found) if found else None

    def _drop_finished(self) -> None:
        """Settles finished rows once they are half of the batch, and goes on with the rest."""
        live = [i for i, row in enumerate(self.rows) if row.finish is None]
        if len(live) == len(self.rows) or (self._linger and 2 * len(live) > len(self.rows)):
            return
        self._settle([i for i, row in enumerate(self.rows) if row.finish is not None])
        self.rows = [self.rows[i] for i in live]
        if not live:
            return
        keep = torch.tensor(live, device=self._loaded.device)
        self._cache.batch_select_indices(keep)
        self._mask = self._mask[keep]
        self._sampler.keep(keep)
        self._held.keep(live)
        self._plan.keep(keep)
        self._tracer = self._make_tracer() if self._tracer is not None else None
        for pool in self._pools:
            pool.keep(keep)

    def _settle(self, finished: Sequence[int]) -> None:
        engaged = self._plan.engaged.tolist()
        # one copy from the device for all rows and layers
        sums, norms = (
            (self._pools[0].sums[0].cpu().numpy(), self._pools[0].norm_sums.cpu().numpy())
            if self._pools
            else (np.empty(0), np.empty(0))
        )
        for i in finished:
            row, encoder = self.rows[i], self._loaded.encoder
            text = encoder.decode(row.written)
            if row.request.sampling.stop and (cut := self._stop_position(row)) is not None:
                text = text[:cut]
            detailed = row.request.logprobs is not None or row.request.trace
            texts = token_texts(encoder.decode, row.written) if detailed else []
            self.done[row.index] = Completion(
                text=text,
                token_ids=tuple(row.written),
                finish_reason=row.finish or "cancelled",
                prompt_tokens=len(row.prompt),
                recipe_hash=row.request.recipe.hash,
                activations=self._activations(i, row, sums, norms),
                caps_engaged=engaged[i],
                token_texts=tuple(texts),
                logprobs=told(row.written, texts, row.chances, encoder.spell) if row.chances else (),
                readings=labelled(row.request.trace, row.readings, len(row.written)),
            )

    def _activations(self, i: int, row: Row, sums: np.ndarray, norms: np.ndarray) -> Activations | None:
        if not row.request.capture or not row.captured:
            return None
        (pool,) = self._pools
        places = {layer: pool.places[layer] for layer in row.request.capture}
        return Activations(
            mean={layer: sums[place, i] / row.captured for layer, place in places.items()},
            norms={layer: float(norms[place, i]) / row.captured for layer, place in places.items()},
            tokens=row.captured,
        )


def _tokens_left(row: Row) -> int:
    return row.request.sampling.max_new_tokens - len(row.written)
