"""Conversations as trees of messages: to edit a question, or to answer it once more, begins another branch.

A message never changes once it is complete, so what an answer was made from stays on the path that leads to it. A
system prompt is the root of its branch.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from persona_steering.backends.base import FinishReason, Role, Sampling
from persona_steering.errors import ConflictError, NotFoundError, UsageError
from persona_steering.server.database import Database
from persona_steering.server.ids import check_id, new_id
from persona_steering.server.paging import Page, PageQuery, select_page
from persona_steering.server.stores.versions import check_version
from persona_steering.vectors.values import Closed

CONVERSATION, MESSAGE = "conv", "msg"  # prefixes of identifiers
MessageStatus = Literal["writing", "complete", "stopped", "failed", "interrupted"]

_PATH = """
WITH RECURSIVE path (id, parent_id, depth) AS (
    SELECT id, parent_id, 0 FROM messages WHERE conversation_id = :conversation AND id = :leaf
    UNION ALL
    SELECT m.id, m.parent_id, depth + 1 FROM messages m JOIN path ON m.id = path.parent_id
)
SELECT messages.* FROM messages JOIN path USING (id) ORDER BY path.depth DESC
"""
_DELETE_BRANCH = """
WITH RECURSIVE branch (id) AS (
    SELECT :message
    UNION ALL
    SELECT m.id FROM messages m JOIN branch ON m.parent_id = branch.id WHERE m.conversation_id = :conversation
)
DELETE FROM messages WHERE id IN (SELECT id FROM branch)
"""


class Segment(Closed):
    """What steered an answer from one of its tokens on, until the next segment."""

    from_token: int = Field(default=0, ge=0)
    steering: str = Field(default="base", description="the blend in its short form")
    safety: bool = False
    recipe: list[JsonValue] = Field(default=[], description="in its canonical form")
    recipe_hash: str = ""


class Timings(Closed):
    """Seconds that an answer took: waiting for its turn, until its first token, and in all."""

    queued_s: float = Field(default=0, ge=0)
    first_token_s: float | None = Field(default=None, ge=0)
    total_s: float = Field(default=0, ge=0)


class Made(Closed):
    """How an answer came about: enough to make it again."""

    model: str = ""
    segments: tuple[Segment, ...] = ()
    sampling: Sampling = Sampling()
    finish_reason: FinishReason | None = None
    prompt_tokens: int = Field(default=0, ge=0, description="of everything before the answer")
    tokens: int = Field(default=0, ge=0, description="of the answer")
    caps_engaged: int = Field(default=0, ge=0)
    warnings: tuple[str, ...] = ()
    timings: Timings | None = None


class MessageNode(BaseModel):
    """One message of a tree. `parent_id` is None at a root; `made` belongs to answers of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    conversation_id: str
    parent_id: str | None
    role: Role
    content: str
    status: MessageStatus
    made: Made | None
    created_at: float = Field(description="seconds since 1970")


class Conversation(BaseModel):
    """A tree's head. `leaf_id` is the end of the branch that is shown; `version` counts the changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    model: str
    leaf_id: str | None
    created_at: float = Field(description="seconds since 1970")
    updated_at: float
    version: int


class ConversationStore:
    """The conversations of a workspace. A method that changes one takes the version that is meant to be changed.

    With `expected` None whatever is there is changed. Raises: NotFoundError for what does not exist, ConflictError for
    another version, UsageError for an identifier that is none, and what the database raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, *, title: str = "", model: str = "") -> Conversation:
        """A new one, without messages."""
        now = time.time()
        made = Conversation(
            id=new_id(CONVERSATION),
            title=title,
            model=model,
            leaf_id=None,
            created_at=now,
            updated_at=now,
            version=1,
        )
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO conversations VALUES (:id, :title, :model, :leaf_id, :created_at, :updated_at, :version)",
                made.model_dump(),
            )
        return made

    def get(self, identifier: str) -> Conversation:
        """The head of one."""
        with self._database.read() as connection:
            return _find(connection, identifier)

    def page(self, query: PageQuery | None = None) -> Page[Conversation]:
        """A page of them, by when they were begun."""
        query = _checked(query or PageQuery())
        with self._database.read() as connection:
            return select_page(connection, "conversations", query, _conversation)

    def rename(self, identifier: str, title: str, *, expected: int | None = None) -> Conversation:
        """Gives one another title."""
        with self._database.write() as connection:
            _find(connection, identifier, expected)
            return _change(connection, identifier, {"title": title})

    def show_branch(self, identifier: str, leaf_id: str | None, *, expected: int | None = None) -> Conversation:
        """Has one continue from another of its messages; None: from before its first."""
        with self._database.write() as connection:
            _find(connection, identifier, expected)
            if leaf_id is not None:
                _find_message(connection, leaf_id, identifier)
            return _change(connection, identifier, {"leaf_id": leaf_id})

    def delete(self, identifier: str, *, expected: int | None = None) -> None:
        """Removes one with all its messages."""
        with self._database.write() as connection:
            _find(connection, identifier, expected)
            connection.execute("DELETE FROM conversations WHERE id = ?", (identifier,))

    def add_message(
        self,
        identifier: str,
        role: Role,
        content: str,
        *,
        parent_id: str | None = None,
        status: MessageStatus = "complete",
        made: Made | None = None,
        expected: int | None = None,
    ) -> MessageNode:
        """Puts a message under `parent_id` (None: as a root), and shows its branch."""
        node = MessageNode(
            id=new_id(MESSAGE),
            conversation_id=identifier,
            parent_id=parent_id,
            role=role,
            content=content,
            status=status,
            made=made,
            created_at=time.time(),
        )
        with self._database.write() as connection:
            _find(connection, identifier, expected)
            if parent_id is not None:
                _find_message(connection, parent_id, identifier)
            connection.execute(
                "INSERT INTO messages VALUES "
                "(:id, :conversation_id, :parent_id, :role, :content, :status, :made, :created_at)",
                node.model_dump() | {"made": made.model_dump_json() if made else None},
            )
            _change(connection, identifier, {"leaf_id": node.id})
        return node

    def update_writing(
        self, message_id: str, content: str, *, status: MessageStatus = "writing", made: Made | None = None
    ) -> MessageNode:
        """Keeps what a message being written has come to; another `status` ends it. Raises ConflictError when ended."""
        with self._database.write() as connection:
            node = _find_message(connection, message_id)
            if node.status != "writing":
                raise ConflictError(
                    f"the message {message_id} is {node.status}, and no longer changes.",
                    hint="Add another under the same parent.",
                )
            ended = node.model_copy(update={"content": content, "status": status, "made": made or node.made})
            connection.execute(
                "UPDATE messages SET content = ?, status = ?, made = ? WHERE id = ?",
                (content, status, ended.made.model_dump_json() if ended.made else None, message_id),
            )
            if status != "writing":
                _change(connection, node.conversation_id, {})
        return ended

    def delete_branch(self, message_id: str, *, expected: int | None = None) -> Conversation:
        """Removes a message with everything below it; where the branch shown ends in it, its parent is shown."""
        with self._database.write() as connection:
            node = _find_message(connection, message_id)
            found = _find(connection, node.conversation_id, expected)
            places = {"conversation": found.id, "message": message_id}
            connection.execute(_DELETE_BRANCH, places)
            left = connection.execute("SELECT 1 FROM messages WHERE id = ?", (found.leaf_id,)).fetchone()
            return _change(connection, found.id, {} if left else {"leaf_id": node.parent_id})

    def tree(self, identifier: str) -> list[MessageNode]:
        """All messages, a parent before its children."""
        with self._database.read() as connection:
            _find(connection, identifier)
            rows = connection.execute("SELECT * FROM messages WHERE conversation_id = ? ORDER BY id", (identifier,))
            return [_message(row) for row in rows]

    def path(self, identifier: str, leaf_id: str | None = None) -> list[MessageNode]:
        """The messages from a root to `leaf_id`; None: to the end of the branch that is shown."""
        with self._database.read() as connection:
            found = _find(connection, identifier)
            if leaf_id is not None:
                _find_message(connection, leaf_id, identifier)
            rows = connection.execute(_PATH, {"conversation": identifier, "leaf": leaf_id or found.leaf_id})
            return [_message(row) for row in rows]

    def interrupt_writing(self) -> int:
        """Marks what a stopped server was writing; for the start of the next one. Returns how many there were."""
        with self._database.write() as connection:
            done = connection.execute("UPDATE messages SET status = 'interrupted' WHERE status = 'writing'")
            return done.rowcount


def _find(connection: sqlite3.Connection, identifier: str, expected: int | None = None) -> Conversation:
    check_id(identifier, CONVERSATION)
    row = connection.execute("SELECT * FROM conversations WHERE id = ?", (identifier,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no conversation {identifier}.", hint="It may have been deleted.")
    found = _conversation(row)
    check_version("conversation", found.version, expected)
    return found


def _find_message(connection: sqlite3.Connection, message_id: str, conversation: str | None = None) -> MessageNode:
    check_id(message_id, MESSAGE)
    row = connection.execute("SELECT * FROM messages WHERE id = ?", (message_id,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no message {message_id}.", hint="It may have been deleted.")
    if conversation is not None and row["conversation_id"] != conversation:
        raise UsageError(
            f"the message {message_id} is in another conversation.", hint="Name a message of this conversation."
        )
    return _message(row)


def _change(connection: sqlite3.Connection, identifier: str, fields: Mapping[str, str | None]) -> Conversation:
    """Sets some columns, and counts the change."""
    columns = "".join(f"{column} = :{column}, " for column in fields)
    connection.execute(
        f"UPDATE conversations SET {columns}updated_at = :now, version = version + 1 WHERE id = :id",
        {**fields, "now": time.time(), "id": identifier},
    )
    return _find(connection, identifier)


def _checked(query: PageQuery) -> PageQuery:
    if query.after is not None:
        check_id(query.after, CONVERSATION)
    return query


def _conversation(row: sqlite3.Row) -> Conversation:
    return Conversation.model_validate(dict(row))


def _message(row: sqlite3.Row) -> MessageNode:
    made = Made.model_validate_json(row["made"]) if row["made"] else None
    return MessageNode.model_validate({**dict(row), "made": made})
