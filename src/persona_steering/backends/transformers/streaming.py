"""An answer on its way, told token by token."""

from __future__ import annotations

from persona_steering.backends.base import Completion, Piece
from persona_steering.backends.transformers.decoding import Row
from persona_steering.backends.transformers.logprobs import told
from persona_steering.backends.transformers.prompts import PromptEncoder
from persona_steering.backends.transformers.reading import token_reading
from persona_steering.backends.transformers.text import TextStream, TokenTexts


class AnswerStream:
    """What has been told of one row, so that each piece holds only what is new. The last piece is told by `end`."""

    def __init__(self, row: Row, encoder: PromptEncoder) -> None:
        self._key, self._encoder = row.index, encoder
        self._texts = TokenTexts(encoder.decode)
        self._stream = TextStream(row.request.sampling.stop)
        self._tokens = self._readings = 0

    def piece(self, row: Row) -> Piece:
        """What the row has written since."""
        start, self._tokens = self._tokens, len(row.written)
        tokens = tuple(row.written[start:])
        texts = tuple(map(self._texts.feed, tokens))
        known = range(self._readings, len(row.readings))
        self._readings = len(row.readings)
        return Piece(
            self._key,
            self._stream.feed("".join(texts)),
            tokens=tokens,
            token_texts=texts,
            logprobs=told(tokens, texts, row.chances[start:], self._encoder.spell) if row.chances else (),
            readings=tuple(token_reading(i, row.request.trace, row.readings[i]) for i in known),
        )

    def end(self, completion: Completion) -> Piece:
        """What is left, with the completion. There are no further readings: nothing is fed back at the end."""
        tokens = completion.token_ids[self._tokens :]
        texts = list(map(self._texts.feed, tokens))
        if texts:
            texts[-1] += self._texts.rest()
        return Piece(
            self._key,
            self._stream.rest(completion.text),
            completion,
            tokens=tokens,
            token_texts=tuple(texts),
            logprobs=completion.logprobs[self._tokens :],
        )
