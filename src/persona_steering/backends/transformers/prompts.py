"""From messages to token ids, the same way for generation, capture and scoring.

A chat template writes its own special tokens, so its text is tokenised without adding any: no double BOS. A
template without a system role gets the system prompt before the first user turn. A model without a template
gets plain paragraphs. Prompt and answer are tokenised apart, so their border never moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from persona_steering.backends.base import Message
from persona_steering.errors import ContextLengthError, PromptError

_SYSTEM_PROBE = "system-role-probe"


class PromptEncoder:
    """Encodes conversations for one tokenizer.

    `thinking_marks` holds the ids of the tokens that open and close a reasoning model's thoughts, if it has any.
    """

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        self._has_system_role = self.has_template and self._probe_system_role()
        self.thinking_marks = self._find_thinking_marks()
        self._spelled: dict[int, str] = {}

    def encode(self, messages: Sequence[Message], *, room: int = 1) -> list[int]:
        """Token ids up to where the answer begins. Raises ContextLengthError when fewer than `room` tokens remain."""
        return self.encode_rendered(self.render(messages), room=room)

    def encode_rendered(self, text: str, *, room: int = 1) -> list[int]:
        """Token ids of a prompt that `render`, or the model's chat template elsewhere, has written as text."""
        return self._fitting(self._tokenize(text, special=not self.has_template), room)

    def encode_bare(self, text: str, *, room: int = 1) -> list[int]:
        """Token ids of a text that no template has made. The BOS is added where one is wanted and not written there."""
        ids, added = self._tokenize(text, special=True), self._tokenize("", special=True)
        written = bool(added) and self._tokenize(text, special=False)[: len(added)] == added
        if not ids:
            raise PromptError("the prompt holds no token.", hint="Write something to go on from.")
        return self._fitting(ids[len(added) :] if written else ids, room)

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def _fitting(self, ids: list[int], room: int) -> list[int]:
        if len(ids) + room > self.context_length:
            raise ContextLengthError(
                f"the prompt has {len(ids)} tokens and the answer needs {room}, "
                f"but the model's context holds {self.context_length}.",
                hint="Shorten the prompt, or ask for a shorter answer.",
            )
        return ids

    def encode_response(self, text: str) -> list[int]:
        """Token ids of a given answer. Raises PromptError when there are none."""
        ids = self._tokenize(text, special=False)
        if not ids:
            raise PromptError("the given answer is empty.", hint="Leave empty answers out.")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, without special tokens."""
        return self._decode(ids, skip_special=True)

    def decode_given(self, ids: Sequence[int]) -> str:
        """The text of given tokens, special tokens written out."""
        return self._decode(ids, skip_special=False)

    def _decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
        )
        return text

    def spell(self, token: int) -> str:
        """The text of a single token inside an answer; a special token is written out."""
        if token not in self._spelled:
            # Alone, a token may lose the space before it.
            before: list[int] = self.tokenizer("a", add_special_tokens=False)["input_ids"]
            text = self.decode([*before, token])[len(self.decode(before)) :]
            self._spelled[token] = text or str(self.tokenizer.convert_ids_to_tokens(token) or "")
        return self._spelled[token]

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text."""
        if not any(message.content.strip() for message in messages if message.role == "user"):
            raise PromptError("the prompt is empty.", hint="Write something to answer.")
        if not self.has_template:
            return "\n\n".join(message.content for message in messages) + "\n\n"
        if not self._has_system_role:
            messages = _system_into_user(messages)
        from jinja2.exceptions import TemplateError

        try:
            return self._apply(messages)
        except TemplateError as error:  # as some do where the roles do not alternate
            raise PromptError(
                f"the model's chat template refuses this conversation: {error}",
                hint="Most want user and assistant in turns, the user first and last.",
            ) from error

    def _apply(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text

    def _probe_system_role(self) -> bool:
        """Some templates raise on a system message, others drop it in silence."""
        from jinja2.exceptions import TemplateError

        try:
            text = self._apply([Message("system", _SYSTEM_PROBE), Message("user", "hello")])
        except TemplateError:
            return False
        return _SYSTEM_PROBE in text

    def _find_thinking_marks(self) -> tuple[int, int] | None:
        vocabulary = self.tokenizer.get_added_vocab()
        for start, stop in (("<think>", "</think>"), ("[THINK]", "[/THINK]")):
            if start in vocabulary and stop in vocabulary:
                return vocabulary[start], vocabulary[stop]
        return None


def _system_into_user(messages: Sequence[Message]) -> list[Message]:
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if system and rest:
        rest[0] = Message(rest[0].role, f"{system}\n\n{rest[0].content}")
    return rest


class ThinkingTracker:
    """Tells, token by token, whether a row is inside its model's thoughts.

    A position is "thinking" when it holds a token from the opening mark up to and including the closing one.
    """

    def __init__(self, marks: tuple[int, int] | None, prompt_ids: Sequence[int]) -> None:
        self._marks = marks
        self._open = False
        for token in prompt_ids:
            self.feed(token)

    @property
    def open(self) -> bool:
        """Whether the next token continues a thought."""
        return self._open

    def feed(self, token: int) -> bool:
        """Takes the next token and says whether its position is thinking."""
        if self._marks is None:
            return False
        inside = self._open or token == self._marks[0]
        self._open = inside and token != self._marks[1]
        return inside
