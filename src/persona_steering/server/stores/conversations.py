"""Conversations as trees of messages: to edit a question, or to answer it once more, begins another branch.

A message never changes once it is complete, so what an answer was made from stays on the path that leads to it. A
system prompt is the root of its branch.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from persona_steering.backends.base import Role
from persona_steering.errors import ConflictError, NotFoundError, UsageError
from persona_steering.server.ids import check_id, new_id
from persona_steering.server.jobs.kinds import Change
from persona_steering.server.paging import Page, PageQuery
from persona_steering.server.stores.conversation_models import (
    CONVERSATION,
    MESSAGE,
    Conversation,
    ConversationEdit,
    Draft,
    FoundConversation,
    Made,
    MessageNode,
    MessageStatus,
)
from persona_steering.server.stores.conversation_search import search
from persona_steering.server.stores.database import Database
from persona_steering.server.stores.versions import check_version

Listener = Callable[[str, Change, str | None], None]  # conversation, what was done, to which message
TITLE_LENGTH = 60  # of a title that is made of a question

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


class ConversationStore:
    """The conversations of a workspace. A method that changes one takes the version that is meant to be changed.

    With `expected` None whatever is there is changed. Raises: NotFoundError for what does not exist, ConflictError for
    another version, UsageError for an identifier that is none, and what the database raises.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Has `listener` told of every change, in the thread that makes it; of a growing answer only the end."""
        self._listeners.append(listener)

    def _tell(self, identifier: str, change: Change, message_id: str | None = None) -> None:
        for listener in self._listeners:
            listener(identifier, change, message_id)

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
            _insert_head(connection, made)
        self._tell(made.id, "made")
        return made

    def get(self, identifier: str) -> Conversation:
        """The head of one."""
        with self._database.read() as connection:
            return _find(connection, identifier)

    def page(self, query: PageQuery | None = None, *, text: str = "") -> Page[FoundConversation]:
        """A page of them, by when they were begun; with `text` those that have it in their title or a message.

        Capitals, and how a character is composed, make no difference.
        """
        query = _checked(query or PageQuery())
        with self._database.read() as connection:
            return search(connection, query, text)

    def change(self, identifier: str, change: ConversationEdit, *, expected: int | None = None) -> Conversation:
        """Sets what is given: another title, another of its messages to go on from."""
        fields: dict[str, str | None] = {}
        with self._database.write() as connection:
            found = _find(connection, identifier, expected)
            if change.title is not None:
                fields["title"] = change.title
            if "leaf_id" in change.model_fields_set:
                if change.leaf_id is not None:
                    _find_message(connection, change.leaf_id, identifier)
                fields["leaf_id"] = change.leaf_id
            changed = _change(connection, identifier, fields) if fields else found
        self._tell(identifier, "changed")
        return changed

    def delete(self, identifier: str, *, expected: int | None = None) -> None:
        """Removes one with all its messages."""
        with self._database.write() as connection:
            _find(connection, identifier, expected)
            connection.execute("DELETE FROM conversations WHERE id = ?", (identifier,))
        self._tell(identifier, "deleted")

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
        draft = Draft(role, content, status, made)
        return self.add_messages(identifier, [draft], parent_id=parent_id, expected=expected)[0]

    def add_messages(
        self, identifier: str, drafts: Sequence[Draft], *, parent_id: str | None = None, expected: int | None = None
    ) -> list[MessageNode]:
        """Puts messages one below the other, the first under `parent_id`, and shows their branch: all or none."""
        nodes: list[MessageNode] = []
        with self._database.write() as connection:
            found = _find(connection, identifier, expected)
            if parent_id is not None:
                _find_message(connection, parent_id, identifier)
            for draft in drafts:
                nodes.append(_node(draft, identifier, nodes[-1].id if nodes else parent_id))
                _insert(connection, nodes[-1])
            fields: dict[str, str | None] = {"leaf_id": nodes[-1].id}
            question = next((draft.content for draft in drafts if draft.role == "user"), "")
            if not found.title and question:
                fields["title"] = title_of(question)
            _change(connection, identifier, fields)
        self._tell(identifier, "made", nodes[-1].id)
        return nodes

    def add_tree(self, head: Conversation, nodes: Sequence[MessageNode]) -> Conversation:
        """Adds a whole conversation, whose messages name each other, a parent before its children. All or nothing."""
        with self._database.write() as connection:
            _insert_head(connection, head)
            for node in nodes:
                _insert(connection, node)
        self._tell(head.id, "made")
        return head

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
        if status != "writing":
            self._tell(node.conversation_id, "changed", message_id)
        return ended

    def delete_branch(
        self, message_id: str, *, conversation: str | None = None, expected: int | None = None
    ) -> Conversation:
        """Removes a message with everything below it; where the branch shown ends in it, its parent is shown.

        Raises UsageError also where it is in another than `conversation`.
        """
        with self._database.write() as connection:
            node = _find_message(connection, message_id, conversation)
            found = _find(connection, node.conversation_id, expected)
            places = {"conversation": found.id, "message": message_id}
            connection.execute(_DELETE_BRANCH, places)
            left = connection.execute("SELECT 1 FROM messages WHERE id = ?", (found.leaf_id,)).fetchone()
            changed = _change(connection, found.id, {} if left else {"leaf_id": node.parent_id})
        self._tell(found.id, "deleted", message_id)
        return changed

    def tree(self, identifier: str) -> list[MessageNode]:
        """All messages, a parent before its children."""
        return self.whole(identifier)[1]

    def whole(self, identifier: str) -> tuple[Conversation, list[MessageNode]]:
        """The head and all messages, as they are at one moment."""
        with self._database.read() as connection:
            found = _find(connection, identifier)
            rows = connection.execute("SELECT * FROM messages WHERE conversation_id = ? ORDER BY id", (identifier,))
            return found, [_message(row) for row in rows]

    def path(self, identifier: str, leaf_id: str | None = None) -> list[MessageNode]:
        """The messages from a root to `leaf_id`; None: to the end of the branch that is shown."""
        return self.branch(identifier, leaf_id)[1]

    def branch(self, identifier: str, leaf_id: str | None = None) -> tuple[Conversation, list[MessageNode]]:
        """The head and the messages of one branch, as they are at one moment; see `path`."""
        with self._database.read() as connection:
            found = _find(connection, identifier)
            if leaf_id is not None:
                _find_message(connection, leaf_id, identifier)
            rows = connection.execute(_PATH, {"conversation": identifier, "leaf": leaf_id or found.leaf_id})
            return found, [_message(row) for row in rows]

    def interrupt_writing(self) -> int:
        """Marks what a stopped server was writing; for the start of the next one. Returns how many there were."""
        with self._database.write() as connection:
            done = connection.execute("UPDATE messages SET status = 'interrupted' WHERE status = 'writing'")
            return done.rowcount


def title_of(question: str) -> str:
    """The first words of a question."""
    words = " ".join(question.split())
    if len(words) <= TITLE_LENGTH:
        return words
    head = words[: TITLE_LENGTH - 1]
    whole, space, _ = head.rpartition(" ")
    return f"{whole if space else head}…"


def _node(draft: Draft, conversation: str, parent: str | None) -> MessageNode:
    return MessageNode(
        id=new_id(MESSAGE),
        conversation_id=conversation,
        parent_id=parent,
        role=draft.role,
        content=draft.content,
        status=draft.status,
        made=draft.made,
        created_at=time.time(),
    )


def _insert(connection: sqlite3.Connection, node: MessageNode) -> None:
    connection.execute(
        "INSERT INTO messages VALUES (:id, :conversation_id, :parent_id, :role, :content, :status, :made, :created_at)",
        node.model_dump(exclude={"made"}) | {"made": node.made.model_dump_json() if node.made else None},
    )


def _insert_head(connection: sqlite3.Connection, head: Conversation) -> None:
    connection.execute(
        "INSERT INTO conversations VALUES (:id, :title, :model, :leaf_id, :created_at, :updated_at, :version)",
        head.model_dump(),
    )


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
