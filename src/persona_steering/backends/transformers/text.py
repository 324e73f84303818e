"""Text out of tokens, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"  # stands for bytes that are no whole character, or not yet one

Decode = Callable[[Sequence[int]], str]


class TokenTexts:
    """The text of every token as they come; the texts join to that of all tokens.

    A character that several tokens make up belongs to the last of them. Only a few tokens are decoded each time:
    those since the character before last began, since a tokenizer may treat the first of a text in its own way.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._recent: list[int] = []
        self._context = 0  # of the recent tokens, those whose text has been told in full
        self._told = 0  # characters of the recent tokens' text that have been told

    def feed(self, token: int) -> str:
        """The text of the next token."""
        self._recent.append(token)
        text = self._decode(self._recent)
        whole = text.rstrip(_BROKEN)
        fresh = whole[self._told :]
        self._told = max(self._told, len(whole))
        if fresh and whole == text:
            self._recent = self._recent[self._context :]
            self._context = len(self._recent)
            self._told = len(self._decode(self._recent))
        return fresh

    def rest(self) -> str:
        """What is left in the end: bytes that never became a character."""
        return self._decode(self._recent)[self._told :]


def token_texts(decode: Decode, ids: Sequence[int]) -> list[str]:
    """The text of every token of an answer that has ended. A broken character at the end belongs to the last one."""
    stream = TokenTexts(decode)
    texts = [stream.feed(token) for token in ids]
    if texts:
        texts[-1] += stream.rest()
    return texts


class TextStream:
    """What can be shown of an answer as its text grows; the pieces join to the answer's text.

    Held back is what may yet turn out to be one of the strings `stop`.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._longest_stop = max(map(len, stop), default=0)
        self._text, self._sent = "", 0

    def feed(self, text: str) -> str:
        """What can be shown now that `text` has been written too."""
        self._text += text
        start, self._sent = self._sent, max(self._sent, len(self._text) - self._longest_stop)
        return self._text[start : self._sent]

    def rest(self, text: str) -> str:
        """What was held back of the final text."""
        return text[self._sent :]
