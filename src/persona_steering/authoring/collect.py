"""Collecting texts from a writer until every category has its share, or nothing new comes any more."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Generic, TypeVar, overload

from persona_steering.authoring.rules import Gate
from persona_steering.authoring.writer import Ask, Fields, HeldBy, Reply, Writer
from persona_steering.backends.base import Progress, ProgressCallback
from persona_steering.errors import QualityError

Item = TypeVar("Item", covariant=True)

Row = tuple[str, str]  # a category and a text

BATCH = 24  # asks in one round
PATIENCE = 5  # rounds without anything new before it is given up
TEMPERATURES = (0.7, 0.9, 0.8, 1.0)  # in turn, so that a small model does not say the same again
LOCAL_EXCESS = 3.0  # texts asked for, per text that is missing: a batch costs a local model little more than a row
LOCAL_LEAST = 6  # asks in a round
REMOTE_EXCESS = 1.3


@dataclass(frozen=True)
class Generated(Sequence[Item], Generic[Item]):
    """What a model wrote and the rules let in: a sequence of its items.

    wanted: how many were asked for; `gave_up` says why there are fewer. rejected: reasons and how often each.
    requests: how many were sent to the writer. held_by: what held its replies to their form.
    """

    items: tuple[Item, ...]
    wanted: int
    rejected: Mapping[str, int]
    requests: int
    held_by: HeldBy
    gave_up: str = ""

    @property
    def complete(self) -> bool:
        """Whether there are as many as were asked for."""
        return len(self.items) >= self.wanted

    def require(self, what: str, *, hint: str = "") -> tuple[Item, ...]:
        """The items. Raises QualityError, with the reasons against the others, when there are too few."""
        if self.complete:
            return self.items
        reasons = ", ".join(f"{count} × {reason}" for reason, count in self.rejected.items()) or "nothing was rejected"
        raise QualityError(
            f"{len(self.items)} of {self.wanted} {what} were written; then there was {self.gave_up} ({reasons}).",
            hint=hint or "Use a larger model to write: --generator openai:URL#MODEL.",
        )

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Wish:
    """How many texts of one category are wanted."""

    category: str
    count: int


class Collector:
    """One collection.

    make_ask: the ask number k for a category that still lacks some; `texts` takes the texts out of a reply. keep:
    called with all rows so far after each round that brought any, also when the round then failed. local: the
    writer is a model in this process, which is asked for more at once than is missing.
    """

    def __init__(
        self,
        writer: Writer,
        gate: Gate,
        wishes: Sequence[Wish],
        make_ask: Callable[[str, int], Ask],
        *,
        phase: str,
        progress: ProgressCallback,
        texts: Callable[[Ask, Fields], Sequence[str]],
        keep: Callable[[Sequence[Row]], None],
        local: bool,
    ) -> None:
        self._writer, self._gate, self._make_ask = writer, gate, make_ask
        self._wishes = {wish.category: wish.count for wish in wishes}
        self._phase, self._progress, self._texts, self._keep = phase, progress, texts, keep
        self._excess, self._least = (LOCAL_EXCESS, LOCAL_LEAST) if local else (REMOTE_EXCESS, 1)
        self._found: dict[str, list[str]] = {category: [] for category in self._wishes}
        self._rejected: Counter[str] = Counter()
        self._asked = 0

    @property
    def wanted(self) -> int:
        """How many texts are wanted in all."""
        return sum(self._wishes.values())

    @property
    def missing(self) -> int:
        """How many are not there yet."""
        return self.wanted - sum(map(len, self._found.values()))

    def begin_with(self, category: str, text: str) -> None:
        """Takes a text of an earlier attempt, if it passes and its category lacks one."""
        if category in self._wishes and len(self._found[category]) < self._wishes[category]:
            self._offer(category, text)

    def run(self) -> Generated[Row]:
        """Rows in an order in which every prefix is balanced over the categories.

        Raises: what the writer raises; what was admitted until then has been kept.
        """
        idle, rounds = 0, 0
        self._report()
        while self.missing and idle < PATIENCE:
            before = self.missing
            try:
                self._writer.write(self._asks(), self._take, temperature=TEMPERATURES[rounds % len(TEMPERATURES)])
            finally:
                if self.missing < before:
                    self._keep(self._rows())
            rounds += 1
            idle = 0 if self.missing < before else idle + 1
        gave_up = f"nothing new in {PATIENCE} rounds" if self.missing else ""
        rejected = dict(self._rejected.most_common())
        return Generated(self._rows(), self.wanted, rejected, self._writer.requests, self._writer.held_by, gave_up)

    def _rows(self) -> tuple[Row, ...]:
        columns = zip_longest(*([(category, text) for text in texts] for category, texts in self._found.items()))
        return tuple(row for column in columns for row in column if row is not None)

    def _asks(self) -> list[Ask]:
        """Asks for what is missing and somewhat more, the categories in turn."""
        lacking = [[c] * (self._wishes[c] - len(found)) for c, found in self._found.items()]
        turn = [category for column in zip_longest(*lacking) for category in column if category is not None]
        per_ask = texts_per_reply(self._make_ask(turn[0], self._asked))
        needed = min(BATCH, max(self._least, math.ceil(self._excess * len(turn) / per_ask)))
        asks = []
        for i in range(needed):
            asks.append(self._make_ask(turn[i % len(turn)], self._asked))
            self._asked += 1
        return asks

    def _take(self, reply: Reply) -> None:
        if not self.missing:
            return  # the rest of the last round, which is not needed any more
        if reply.trouble:
            self._rejected[reply.trouble] += 1
        for text in self._texts(reply.ask, reply.fields) if reply.fields else ():
            self._offer(reply.ask.category, text)
        self._report()

    def _offer(self, category: str, text: str) -> None:
        text = " ".join(text.split())
        if len(self._found[category]) >= self._wishes[category]:
            return  # more than its category's share, which is no fault
        reason = self._gate.admit(text)
        if reason is None:
            self._found[category].append(text)
        else:
            self._rejected[reason] += 1

    def _report(self) -> None:
        newest = next((texts[-1] for texts in reversed(self._found.values()) if texts), "")
        self._progress(Progress(self._phase, self.wanted - self.missing, self.wanted, newest))


def shares(categories: Sequence[str], count: int) -> list[Wish]:
    """`count` texts shared out over categories: the numbers differ by one at most."""
    least, more = divmod(count, len(categories))
    wishes = [Wish(category, least + (i < more)) for i, category in enumerate(categories)]
    return [wish for wish in wishes if wish.count]


def texts_per_reply(ask: Ask) -> int:
    """How many texts a reply holds at most; single fields make up one text together."""
    return sum(field.most or 0 for field in ask.fields.values()) or 1


def all_texts(ask: Ask, fields: Fields) -> list[str]:
    """Every text of a reply: one by one where the fields are lists, else joined to one text."""
    if all(field.most is None for field in ask.fields.values()):
        return [" ".join(chain(*fields.values()))]
    return [*chain(*fields.values())]
