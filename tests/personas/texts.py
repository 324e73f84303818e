"""What the tests of the shipped texts ask of a text, beside the package's own measures."""

from __future__ import annotations

from collections.abc import Iterable

from persona_steering.personas.texts import INTERROGATIVE, YES_NO, overlap, sentences, words
from persona_steering.personas.texts import MACHINE as FORBIDDEN

__all__ = ["FORBIDDEN", "INTERROGATIVE", "YES_NO", "closest", "overlap", "sentences", "words"]


def closest(pairs: Iterable[tuple[str, str]], *, content_only: bool = False) -> tuple[float, str, str]:
    return max((overlap(a, b, content_only=content_only), a, b) for a, b in pairs)
