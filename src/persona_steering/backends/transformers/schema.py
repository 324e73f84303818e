"""Holding answers to a JSON schema while they are written, each row of a batch to its own or to none.

The grammar engine is llguidance: before every token it gives one bit per token of the vocabulary, and the logits of
the others become minus infinity. What is sampled then is the model's own distribution over the tokens that keep the
answer valid, so seeds stay reproducible and no row knows of its neighbours. Special tokens are never allowed inside
an answer, the end of turn only where the value is complete; once nothing more may follow, the row ends at once.

JSON is written with one space after commas and colons, as models mostly saw it, and with no other white space, of
which small models write endless rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import JsonValue

from persona_steering.errors import CapabilityError, UsageError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_SEPARATORS: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_KEPT = 64  # compiled schemas that are remembered


class SchemaCompiler:
    """Compiles schemas for one tokenizer, and remembers them. Nothing is loaded before the first."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._hf_tokenizer, self._stop_ids = tokenizer, stop_ids
        self._tokenizer: LLTokenizer | None = None
        self._compiled: dict[str, LLMatcher] = {}

    def matcher(self, schema: Mapping[str, JsonValue]) -> LLMatcher:
        """A matcher at the start of an answer.

        Raises: UsageError for a schema that is not valid, cannot be met or uses what is not supported;
        CapabilityError for a tokenizer that cannot be followed.
        """
        from llguidance import LLMatcher

        key = json.dumps(schema, sort_keys=False)  # the order of properties is the order of writing
        if key not in self._compiled:
            grammar = LLMatcher.grammar_from_json_schema(dict(schema), overrides=_SEPARATORS)
            matcher = LLMatcher(self._follow(), grammar, log_level=0)
            if matcher.is_error():
                reason = matcher.get_error().splitlines()[0].rstrip(".")
                raise _unusable(reason)
            try:
                _allowed_tokens(matcher.deep_copy(), 1)  # some are found to be too large only here
            except CapabilityError as error:
                raise _unusable(error.message.rstrip(".")) from error
            while len(self._compiled) >= _KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            self._compiled[key] = matcher
        return self._compiled[key].deep_copy()

    def _follow(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance.hf import from_tokenizer

            try:
                # without an end-of-turn token the grammar needs some name for it, which is then never sampled
                stops = sorted(self._stop_ids) or None
                self._tokenizer = from_tokenizer(self._hf_tokenizer, eos_token=stops)
            except (ValueError, TypeError) as error:
                raise CapabilityError(
                    f"this model's tokenizer cannot be held to a JSON schema: {error}.",
                    hint="Use a model with a fast tokenizer (tokenizer.json).",
                ) from error
        return self._tokenizer


class HeldRows:
    """The rows of one batch that are held to a schema: `matchers` has one entry per row, None where there is none."""

    def __init__(self, matchers: Sequence[LLMatcher | None]) -> None:
        self._matchers = list(matchers)
        self.broken: dict[int, CapabilityError] = {}  # rows that could not be held any longer, by the last `allow`

    def __bool__(self) -> bool:
        """Whether any row is held, so that other batches pay nothing."""
        return any(matcher is not None for matcher in self._matchers)

    def allow(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `[rows, vocabulary]` with minus infinity where a token would break its row's schema.

        Of a row in `broken` afterwards no token may be taken.
        """
        allowed = np.ones(tuple(logits.shape), dtype=bool)
        self.broken = {}
        for row, matcher in enumerate(self._matchers):
            if matcher is None:
                continue
            try:
                allowed[row] = _allowed_tokens(matcher, logits.shape[-1])
            except CapabilityError as error:
                self.broken[row] = error
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))

    def settle(self, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The sampled tokens `[rows]`, but the likeliest allowed one where rounding fell on a forbidden token."""
        chosen = logits.gather(-1, tokens[:, None]).squeeze(-1)
        return torch.where(chosen == float("-inf"), logits.argmax(-1), tokens)

    def feed(self, row: int, token: int) -> bool:
        """Takes the token that a row wrote, and says whether its answer is complete and nothing may follow."""
        matcher = self._matchers[row]
        if matcher is None:
            return False
        matcher.consume_token(token)
        return matcher.is_stopped() and not matcher.is_error()

    def release(self, row: int) -> None:
        """Lets go of a finished row."""
        self._matchers[row] = None

    def join(self, other: HeldRows) -> None:
        """Appends the rows of another batch."""
        self._matchers += other._matchers

    def keep(self, rows: Sequence[int]) -> None:
        """Drops every row but those at the given indices."""
        self._matchers = [self._matchers[row] for row in rows]


def _unusable(reason: str) -> UsageError:
    return UsageError(f"the JSON schema cannot be used: {reason}.", hint="Correct or simplify the schema.")


def _allowed_tokens(matcher: LLMatcher, vocabulary: int) -> np.ndarray:
    """One bool per token. Tokens that only the model's padded vocabulary has are not allowed."""
    bits = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")
    if matcher.is_error() or not bits.any():
        reason = (matcher.get_error() or "no token fits").splitlines()[0].rstrip(".")
        raise CapabilityError(f"an answer could not be held to its JSON schema: {reason}.", hint="Simplify the schema.")
    allowed = np.zeros(vocabulary, dtype=bool)
    shared = min(vocabulary, bits.size)
    allowed[:shared] = bits[:shared]
    return allowed
