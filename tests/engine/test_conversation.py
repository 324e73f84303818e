"""Conversation: turns, undoing and repeating them, and files. No model is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from persona_steering.backends.base import Message, Sampling
from persona_steering.engine.conversation import Conversation, Turn
from persona_steering.errors import NotFoundError, PromptError, StorageError, UsageError


def turn(question: str, answer: str, **fields: object) -> Turn:
    return Turn.model_validate({"question": question, "answer": answer, **fields})


@pytest.fixture
def talk() -> Conversation:
    """Two turns under a system prompt."""
    return Conversation(
        model="a-model",
        system="Be kind.",
        turns=[
            turn("Hi?", "Hello.", prompt_tokens=10, tokens=3),
            turn("And\nyou?", "Fine", steering="sage:0.6", prompt_tokens=20, tokens=5, stopped=True, base="Good."),
        ],
    )


def test_the_model_is_sent_everything_that_was_said(talk: Conversation) -> None:
    assert talk.messages("Why?") == (
        Message("system", "Be kind."),
        Message("user", "Hi?"),
        Message("assistant", "Hello."),
        Message("user", "And\nyou?"),
        Message("assistant", "Fine"),
        Message("user", "Why?"),
    )
    assert Conversation().messages("Why?") == (Message("user", "Why?"),)


def test_an_empty_message_is_refused(talk: Conversation) -> None:
    with pytest.raises(PromptError, match="empty"):
        talk.messages(" \n")


def test_a_turn_can_be_taken_back_and_the_context_with_it(talk: Conversation) -> None:
    assert talk.used_tokens == 25
    assert talk.undo().question == "And\nyou?"
    assert talk.used_tokens == 13
    talk.undo()
    assert talk.used_tokens == 0 and talk.messages("Why?")[1:] == (Message("user", "Why?"),)
    with pytest.raises(UsageError, match="no turn yet"):
        talk.undo()


def test_the_last_turn_can_be_answered_again_or_asked_otherwise(talk: Conversation) -> None:
    again = talk.without_last().messages("And them?")
    assert [message.content for message in again] == ["Be kind.", "Hi?", "Hello.", "And them?"]
    assert len(talk.turns) == 2  # nothing is lost until there is a new answer
    talk.replace_last(turn("And them?", "Well."))
    assert [turn.answer for turn in talk.turns] == ["Hello.", "Well."]
    with pytest.raises(UsageError, match="no turn yet"):
        Conversation().replace_last(turn("a", "b"))


def test_a_saved_conversation_is_read_back_as_it_was(talk: Conversation, tmp_path: Path) -> None:
    talk.turns[0] = talk.turns[0].model_copy(update={"sampling": Sampling(seed=7, stop=("\n",)), "answer": "мир 世界"})
    talk.save(tmp_path / "new" / "talk.json")
    assert Conversation.load(tmp_path / "new" / "talk.json") == talk
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "talk.json"]


def test_markdown_tells_who_said_what_and_what_steered_it(talk: Conversation, tmp_path: Path) -> None:
    talk.save(tmp_path / "talk.md")
    assert (tmp_path / "talk.md").read_text().split("\n\n") == [
        "# Conversation with a-model",
        "System prompt:",
        "> Be kind.",
        "**You**",
        "> Hi?",
        "**base**",
        "Hello.",
        "**You**",
        "> And\n> you?",
        "**base**",
        "Good.",
        "**sage:0.6** (stopped)",
        "Fine\n",
    ]


@pytest.mark.parametrize("name", ["talk.txt", "talk"])
def test_another_kind_of_file_is_refused(talk: Conversation, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not saved as") as refused:
        talk.save(tmp_path / name)
    assert ".json" in refused.value.hint and not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_said(talk: Conversation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="was not written"):
        talk.save(tmp_path / "file" / "talk.json")


def damaged(talk: Conversation) -> dict[str, str]:
    data = talk.model_dump(mode="json")
    return {
        "is not JSON": "{",
        "is empty": "{}",
        "is something else": json.dumps({"messages": []}),
        "has a turn without an answer": json.dumps(data | {"turns": [{"question": "a"}]}),
        "is of a later version": json.dumps(data | {"version": 2}),
        "counts below zero": json.dumps(data | {"turns": [data["turns"][0] | {"tokens": -1}]}),
    }


@pytest.mark.parametrize(
    "why",
    [
        "is not JSON",
        "is empty",
        "is something else",
        "has a turn without an answer",
        "is of a later version",
        "counts below zero",
    ],
)
def test_a_file_that_is_no_conversation_is_refused(talk: Conversation, tmp_path: Path, why: str) -> None:
    file = tmp_path / "talk.json"
    file.write_text(damaged(talk)[why])
    with pytest.raises(UsageError, match="not a saved conversation") as refused:
        Conversation.load(file)
    assert str(file) in refused.value.message


def test_a_file_that_is_not_there_or_not_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        Conversation.load(tmp_path / "talk.json")
    with pytest.raises(UsageError, match="cannot be read"):
        Conversation.load(tmp_path)
