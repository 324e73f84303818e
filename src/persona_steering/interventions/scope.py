"""Scope: which token positions an intervention touches.

Positions are absolute within a row: 0 is the first prompt token, padding is negative and never touched. With a
prompt of P tokens the last prompt token, at P-1, predicts the first response token, so `response` begins there.

    response        [P-1, end)          the default
    response[a:b]   [P-1+a, P-1+b)      the positions that predict response tokens a to b-1
    prompt          [0, P)
    all             [0, end)
    tokens[a:b]     [a, b)
    thinking        the positions of `response` that lie between the model's thinking marks

This module owns that table. Every scope but `thinking` is one interval per row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from persona_steering.errors import RecipeError

ScopeKind = Literal["response", "prompt", "all", "tokens", "thinking"]
END = 2**31 - 1  # past every position

_PATTERN = re.compile(r"(?P<kind>[a-z]+)(?:\[(?P<start>\d*):(?P<stop>\d*)\])?")


@dataclass(frozen=True, slots=True)
class Scope:
    """One row of the table above. `start` and `stop` bound a window; `stop` None means no end."""

    kind: ScopeKind = "response"
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScopeKind):
            raise RecipeError(f"unknown scope {self.kind!r}.", hint=f"Use one of {', '.join(get_args(ScopeKind))}.")
        windowed = self.start != 0 or self.stop is not None
        if windowed and self.kind not in ("response", "tokens"):
            raise RecipeError(f"scope {self.kind!r} takes no window.", hint="Use response[a:b] or tokens[a:b].")
        if self.start > END or (self.stop is not None and self.stop > END):
            raise RecipeError(f"the window of scope {self} is beyond every position.", hint="Write response[0:8].")
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise RecipeError(f"the window of scope {self} is empty.", hint="Write [a:b] with 0 <= a < b.")

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Reads `response`, `response[0:8]`, `tokens[4:]`, … Raises RecipeError."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise RecipeError(f"{text!r} is not a scope.", hint="Write for instance response or response[0:8].")
        stop = match["stop"]
        kind: ScopeKind = match["kind"]  # type: ignore[assignment]  # __post_init__ checks it
        return cls(kind, int(match["start"] or 0), int(stop) if stop else None)

    def __str__(self) -> str:
        if self.start == 0 and self.stop is None:
            return self.kind
        return f"{self.kind}[{self.start}:{'' if self.stop is None else self.stop}]"

    def interval(self, prompt_length: int) -> tuple[int, int]:
        """The half-open interval of absolute positions for a row whose prompt has `prompt_length` tokens."""
        if self.kind == "prompt":
            return 0, prompt_length
        offset = prompt_length - 1 if self.kind in ("response", "thinking") else 0
        return offset + self.start, END if self.stop is None else offset + self.stop
