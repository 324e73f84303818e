"""A conversation: its turns, what steered each of them, and its file.

It knows no model. The tokens it counts are those that were counted while answering.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from persona_steering.backends.base import Message, Sampling, conversation
from persona_steering.errors import NotFoundError, UsageError
from persona_steering.files import write_atomically

JSON_SUFFIX = ".json"
MARKDOWN_SUFFIX = ".md"
MAX_FILE = 64_000_000  # bytes; no conversation that a model could hold is as long


class Turn(BaseModel):
    """A question, its answer, and what the answer was made with.

    `base` is the answer of the unsteered model beside it, where the two were compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    answer: str
    steering: str = Field(default="base", description="the blend in its short form")
    safety: bool = False
    recipe_hash: str = ""
    sampling: Sampling = Sampling()
    prompt_tokens: int = Field(default=0, ge=0, description="of everything before the answer")
    tokens: int = Field(default=0, ge=0, description="of the answer")
    caps_engaged: int = Field(default=0, ge=0)
    stopped: bool = False
    base: str | None = None


class Conversation(BaseModel):
    """An ordered list of turns under one system prompt."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["persona-steering conversation"] = "persona-steering conversation"
    version: Literal[1] = 1
    model: str = ""
    system: str | None = None
    turns: list[Turn] = []

    @property
    def last(self) -> Turn:
        """The newest turn. Raises UsageError when there is none."""
        if not self.turns:
            raise UsageError("the conversation has no turn yet.", hint="Ask something first.")
        return self.turns[-1]

    @property
    def used_tokens(self) -> int:
        """Tokens of the context that the newest turn took, its answer included."""
        return self.turns[-1].prompt_tokens + self.turns[-1].tokens if self.turns else 0

    def messages(self, question: str) -> tuple[Message, ...]:
        """All that is sent to the model to have `question` answered next. Raises PromptError when it is empty."""
        *head, asked = conversation(question, self.system)
        for turn in self.turns:
            head += [Message("user", turn.question), Message("assistant", turn.answer)]
        return (*head, asked)

    def add(self, turn: Turn) -> None:
        """Appends a turn."""
        self.turns.append(turn)

    def undo(self) -> Turn:
        """Takes the newest turn back and returns it. Raises UsageError when there is none."""
        last = self.last
        self.turns.pop()
        return last

    def without_last(self) -> Conversation:
        """The conversation as it was before its newest turn, to answer that once more. Raises as `last`."""
        last = self.last
        return self.model_copy(update={"turns": [turn for turn in self.turns if turn is not last]})

    def replace_last(self, turn: Turn) -> None:
        """Puts another turn in the newest one's place. Raises as `last`."""
        self.undo()
        self.add(turn)

    def save(self, path: Path) -> None:
        """Writes `.json`, which `load` reads back, or `.md` to be read by people.

        Raises UsageError for another suffix, StorageError when the disk is full or not writable.
        """
        if path.suffix == JSON_SUFFIX:
            text = self.model_dump_json(indent=2) + "\n"
        elif path.suffix == MARKDOWN_SUFFIX:
            text = self.to_markdown()
        else:
            raise UsageError(
                f"a conversation is not saved as {path.suffix or 'a file without a suffix'}.",
                hint=f"Give a name that ends in {JSON_SUFFIX} (can be opened again) or {MARKDOWN_SUFFIX} (to read).",
            )
        write_atomically(path, text.encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a `.json` that `save` wrote. Raises NotFoundError or UsageError."""
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE)  # cut off, a longer one is refused below
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {path}.", hint="Check the path.") from error
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
        try:
            found = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise _refused(path, f"{where}: {first['msg']}" if where else first["msg"]) from error
        if "format" not in found.model_fields_set:
            raise _refused(path, "it does not say that it is one")
        return found

    def to_markdown(self) -> str:
        """The conversation to be read by people."""
        parts = [f"# Conversation with {self.model or 'a model'}"]
        if self.system:
            parts.append(f"System prompt:\n\n{_quoted(self.system)}")
        for turn in self.turns:
            parts.append(f"**You**\n\n{_quoted(turn.question)}")
            if turn.base is not None:
                parts.append(f"**base**\n\n{turn.base}")
            mark = " (stopped)" if turn.stopped else ""
            parts.append(f"**{turn.steering}**{mark}\n\n{turn.answer}")
        return "\n\n".join(parts) + "\n"


def _refused(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} is not a saved conversation: {reason}.", hint="/save FILE.json writes one.")


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
