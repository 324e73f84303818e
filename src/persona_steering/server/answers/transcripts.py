"""Conversations as files: JSON, which holds the whole tree and can be taken in again, and Markdown, to be read."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from pydantic import Field

from persona_steering.backends.base import Role
from persona_steering.errors import UsageError
from persona_steering.server.ids import new_id
from persona_steering.server.stores.conversation_models import (
    CONVERSATION,
    MAX_TITLE,
    MESSAGE,
    Conversation,
    Made,
    MessageNode,
    MessageStatus,
)
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.vectors.values import Closed

FileFormat = Literal["json", "md"]
MAX_MESSAGES = 10_000
FileId = Annotated[str, Field(min_length=1, max_length=64)]
_SPEAKERS: dict[Role, str] = {"system": "System prompt", "user": "You", "assistant": "Answer"}


class FileMessage(Closed):
    """One message of a file."""

    id: FileId
    parent_id: FileId | None = Field(description="a message before this one; null: it is the first of a branch")
    role: Role
    content: str
    status: MessageStatus = "complete"
    made: Made | None = Field(default=None, description="how an answer came about")
    created_at: float = Field(ge=0, description="seconds since 1970")


class ConversationFile(Closed):
    """A conversation with all its branches."""

    format: Literal["persona-steering conversation tree"] = Field(description="says what this file is")
    version: Literal[1] = 1
    title: str = Field(default="", max_length=MAX_TITLE)
    model: str = Field(default="", max_length=512)
    leaf_id: FileId | None = Field(default=None, description="the end of the branch that is shown")
    created_at: float = Field(ge=0, description="seconds since 1970")
    messages: list[FileMessage] = Field(max_length=MAX_MESSAGES, description="a parent before its children")


def file_of(head: Conversation, messages: list[MessageNode]) -> ConversationFile:
    """The file of a conversation."""
    return ConversationFile(
        format="persona-steering conversation tree",
        title=head.title,
        model=head.model,
        leaf_id=head.leaf_id,
        created_at=head.created_at,
        messages=[FileMessage(**node.model_dump(exclude={"conversation_id"})) for node in messages],
    )


def add_file(store: ConversationStore, file: ConversationFile) -> Conversation:
    """Takes a file in, with identifiers of its own. Raises UsageError for a tree that is none."""
    now, name = time.time(), new_id(CONVERSATION)
    ids: dict[str, str] = {}
    nodes = [_taken_in(message, name, ids) for message in file.messages]
    if file.leaf_id is not None and file.leaf_id not in ids:
        raise UsageError(f"leaf_id is {file.leaf_id!r}, and no message is called so.")
    head = Conversation(
        id=name,
        title=file.title,
        model=file.model,
        leaf_id=ids[file.leaf_id] if file.leaf_id is not None else None,
        created_at=file.created_at,
        updated_at=now,
        version=1,
    )
    return store.add_tree(head, nodes)


def _taken_in(message: FileMessage, conversation: str, ids: dict[str, str]) -> MessageNode:
    """The message under a new identifier, which `ids` then knows."""
    if message.id in ids:
        raise UsageError(f"two messages are called {message.id!r}.", hint="Give each an id of its own.")
    if message.parent_id is not None and message.parent_id not in ids:
        raise UsageError(
            f"the message {message.id!r} has no parent {message.parent_id!r} before it.",
            hint="List parents before their children.",
        )
    if message.role == "system" and message.parent_id is not None:
        raise UsageError(f"the system prompt {message.id!r} is not the first message.")
    ids[message.id] = new_id(MESSAGE)
    return MessageNode(
        id=ids[message.id],
        conversation_id=conversation,
        parent_id=ids[message.parent_id] if message.parent_id is not None else None,
        role=message.role,
        content=message.content,
        status="interrupted" if message.status == "writing" else message.status,  # nobody writes it here
        made=message.made,
        created_at=message.created_at,
    )


def to_markdown(head: Conversation, branch: list[MessageNode]) -> str:
    """One branch, to be read by people."""
    parts = [f"# {_line(head.title) or 'Conversation'}"]
    if head.model:
        parts.append(f"Model: {_line(head.model)}")
    for node in branch:
        parts.append(f"**{_speaker(node)}**\n\n{node.content if node.role == 'assistant' else _quoted(node.content)}")
    return "\n\n".join(parts) + "\n"


def _speaker(node: MessageNode) -> str:
    """Who says it; of an answer also what steered it, and whether it was finished."""
    name = _SPEAKERS[node.role]
    if node.made is not None:
        name += "".join(f", {one.applied.short}" for one in node.made.segments if one.applied is not None)
    return name if node.status == "complete" else f"{name} ({node.status})"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _line(text: str) -> str:
    return " ".join(text.split())
