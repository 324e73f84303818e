"""Looking at texts: their words and sentences, and whether two of them are nearly the same.

The shipped sets are held to these measures by tests, generated sets while they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NEAR_DUPLICATE = 0.6  # share of common words from which two short texts count as the same


def words(text: str) -> list[str]:
    """The words of a text in lower case, letters and apostrophes only."""
    return re.findall(r"[a-z']+", text.lower())


def sentences(text: str) -> list[str]:
    """The sentences of a text; a closing quote or bracket belongs to the one it ends."""
    return [s for s in re.split(r"(?<=[.!?])['\")]*\s+", text.strip()) if s]


YES_NO = frozenset(
    words("is are am was were do does did can could will would shall should has have had may might must")
)  # a question that begins with one of them asks for a yes or a no
INTERROGATIVE = frozenset(words("how what where which who why when"))

# Words that carry no subject: two texts with the same others say the same.
FUNCTION_WORDS = frozenset(
    words(
        "a an the and or of to in on at for from with without by as is are be do does i me my you your it its"
        " that this what how which where when why who best way help tell show give write explain describe"
        " suggest create should can so"
    )
)

MACHINE = re.compile(
    r"\b(a\.?i\.?|artificial|assistants?|language models?|llms?|chat ?bots?|gpt)\b", re.IGNORECASE
)  # what a character is not


def overlap(first: str, second: str, *, content_only: bool = False) -> float:
    """The share of words that two texts have in common, 0 to 1 (Jaccard); `content_only` leaves function words out."""
    a, b = set(words(first)), set(words(second))
    if content_only:
        a, b = a - FUNCTION_WORDS, b - FUNCTION_WORDS
    return len(a & b) / max(len(a | b), 1)


def near_duplicate(text: str, others: Iterable[str], *, threshold: float = NEAR_DUPLICATE) -> str | None:
    """The first of `others` that shares at least `threshold` of its words, or of its content words, with a text."""
    for other in others:
        if overlap(text, other) >= threshold or overlap(text, other, content_only=True) >= threshold:
            return other
    return None
