"""Text out of tokens, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class TextStream:
    """What can be shown of an answer as its tokens come; the pieces join to the answer's text.

    Held back are an unfinished character, and what may yet turn out to be one of the strings `stop`.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self._decode, self._longest_stop = decode, max(map(len, stop), default=0)
        self._sent = ""

    def feed(self, written: Sequence[int]) -> str:
        """What is new of the tokens written so far."""
        ready = self._decode(written).rstrip("\ufffd")
        ready = ready[: max(len(self._sent), len(ready) - self._longest_stop)]
        if len(ready) <= len(self._sent) or not ready.startswith(self._sent):
            return ""
        piece = ready[len(self._sent) :]
        self._sent = ready
        return piece

    def rest(self, text: str) -> str:
        """What was held back of the final text."""
        return text[len(self._sent) :]
