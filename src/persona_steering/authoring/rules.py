"""What a text must be to enter a data set: one rule, one reason. The same rules judge a writer and a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from persona_steering.authoring.characters import same_sides
from persona_steering.personas.texts import (
    FUNCTION_WORDS,
    INTERROGATIVE,
    MACHINE,
    YES_NO,
    near_duplicate,
    sentences,
    words,
)

_TELLING = frozenset(words("describe tell explain imagine share name"))  # a task that is as open as a question
_ASKING = frozenset(words("question questions"))  # the writer repeats its task
_SPEAKS = re.compile(
    r"^(You|Your|Speak|Talk|Answer|Act|Stay|Reply|Respond|When|Before|What you|All your|From now on)\b"
)
_ODD = re.compile(r"[\x00-\x1f\x7f<>{}\[\]|\\^`~#*_=]|https?:|\w\.\w{2,3}/")
_DANGLING = frozenset(
    words(
        "a an the and or but nor of from into with without your his our their every each very because than"
        " if is that which who"
    )
)
_LETTERS = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Rule:
    """A demand on a text, named by what is wrong with one that does not meet it."""

    reason: str
    broken: Callable[[str], bool]


def _length(least: int, most: int) -> tuple[Rule, Rule]:
    return (
        Rule(f"shorter than {least} words", lambda text: len(text.split()) < least),
        Rule(f"longer than {most} words", lambda text: len(text.split()) > most),
    )


def _runs_on(most: int, quoted: int = 75) -> Rule:
    """A text whose sentences or quotes are long enough to have been ended by the limit of their form."""
    return Rule(
        "runs on",
        lambda text: (
            max(map(len, sentences(text)), default=0) > most
            or any(len(part) > quoted for part in re.findall(r"(?<!\w)'([^']*)'", text))
        ),
    )


def _first(text: str) -> str:
    found = words(text)
    return found[0] if found else ""


def _repeats(text: str) -> bool:
    """Whether four words in a row come twice, a word follows itself, or one makes up a third of a long text."""
    found = words(text)
    runs = [tuple(found[i : i + 4]) for i in range(len(found) - 3)]
    apart = [word for word in found if word not in ("and", "or")]
    doubled = any(a == b for a, b in pairwise(apart) if a not in FUNCTION_WORDS)
    return len(set(runs)) < len(runs) or doubled or (len(found) > 9 and max(map(found.count, found)) > len(found) / 3)


def _breaks_off(text: str) -> bool:
    """Whether a sentence ends with a word that something must follow."""
    return any((words(sentence) or [""])[-1] in _DANGLING for sentence in sentences(text))


def _without_words(text: str) -> bool:
    return len(_LETTERS.findall(text)) < 0.6 * len(text)


COMMON = (
    Rule("speaks of an AI", lambda text: bool(MACHINE.search(text))),
    Rule("odd characters, a link or code", lambda text: bool(_ODD.search(text)) or _without_words(text)),
)
# of small models; long prompts written by hand may repeat a word on purpose, or end with a quoted "and"
FAULTS = (Rule("repeats itself", _repeats), Rule("breaks off", _breaks_off))
QUESTION_RULES = (
    *_length(5, 30),
    _runs_on(140),
    Rule("a yes/no question", lambda text: _first(text) in YES_NO),
    Rule("not a question", lambda text: not text.endswith("?") and _first(text) not in _TELLING),
    Rule("speaks of the asking", lambda text: bool(_ASKING & set(words(text)))),
    Rule("two questions", lambda text: text.count("?") > 1),
    *COMMON,
    *FAULTS,
)
PROMPT_RULES = (
    *_length(4, 20),
    _runs_on(110),
    Rule("a yes/no question", lambda text: _first(text) in YES_NO),
    Rule("a question without a question mark", lambda text: _first(text) in INTERROGATIVE and text[-1:] != "?"),
    *COMMON,
    *FAULTS,
)
_ENDS = Rule("does not end a sentence", lambda text: not text.endswith((".", "!", "?", ".'", "!'", "?'")))
_SPOKEN_TO = Rule("does not speak to the character", lambda text: not _SPEAKS.match(text))
# what a writer adds to a character's description
SIDE_RULES = (*_length(8, 90), _runs_on(180), _SPOKEN_TO, _ENDS, *COMMON, *FAULTS)
PAIR_RULES = (*_length(12, 120), _runs_on(180), Rule("both sides say the same", same_sides), _ENDS, *COMMON)
PERSONA_RULES = (
    *_length(12, 150),
    Rule("not 2 to 4 sentences", lambda text: not 2 <= len(sentences(text)) <= 4),
    _SPOKEN_TO,
    _ENDS,
    *COMMON,
)


def broken_rules(text: str, rules: Sequence[Rule]) -> list[str]:
    """The reasons against a text, in the order of the rules."""
    return [rule.reason for rule in rules if rule.broken(text)]


class Gate:
    """Lets texts in one after the other: those that meet the rules and are not nearly one that is in already.

    apart_from: texts that must not be copied, such as the examples that the writer was shown.
    """

    def __init__(self, rules: Sequence[Rule], *, apart_from: Iterable[str] = ()) -> None:
        self._rules, self._apart_from = rules, tuple(apart_from)
        self._admitted: list[str] = []
        self._seen: set[str] = set()

    def refusal(self, text: str) -> str | None:
        """Why a text may not enter, in a few words; None when it may. The first reason counts."""
        if reasons := broken_rules(text, self._rules):
            return reasons[0]
        if _folded(text) in self._seen:
            return "a duplicate"
        if near_duplicate(text, self._admitted) is not None:
            return "nearly a duplicate"
        if near_duplicate(text, self._apart_from) is not None:
            return "copies an example"
        return None

    def admit(self, text: str) -> str | None:
        """Takes a text in, or says why not."""
        reason = self.refusal(text)
        if reason is None:
            self._admitted.append(text)
            self._seen.add(_folded(text))
        return reason


def _folded(text: str) -> str:
    return " ".join(words(text))
