"""Conversations by what was said in them: every text is looked through, in any language, and no index is kept.

SQLite's full-text index is not in every build, knows no words where none are set apart by spaces, and finds no parts
of words; a reader's conversations are few enough to be read.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from persona_steering.server.paging import Page, PageQuery
from persona_steering.server.stores.conversation_models import Conversation, FoundConversation, Match

FOLD = "folded"  # the SQL function's name
_AROUND = 60  # characters of an excerpt on either side
_FOUND = f"""
SELECT *, (
    SELECT m.id FROM messages m
    WHERE m.conversation_id = c.id AND instr({FOLD}(m.content), :text) > 0 ORDER BY m.id LIMIT 1
) AS message_id, instr({FOLD}(title), :text) > 0 AS titled
FROM conversations c
"""


def folded(text: str) -> str:
    """The text as it is compared: without a difference of capitals, or of how a character is composed."""
    return unicodedata.normalize("NFKC", text).casefold()


def search(connection: sqlite3.Connection, query: PageQuery, text: str) -> Page[FoundConversation]:
    """One page of the conversations that have `text` in their title or a message; of all for an empty one."""
    ascending = query.order == "asc"
    conditions = [f"id {'>' if ascending else '<'} :after"] if query.after is not None else []
    source, values = "conversations", {"after": query.after, "limit": query.limit + 1}
    wanted = folded(text.strip())
    if wanted:
        connection.create_function(FOLD, 1, folded, deterministic=True)
        source, values["text"] = f"({_FOUND})", wanted
        conditions.append("(titled OR message_id IS NOT NULL)")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = connection.execute(
        f"SELECT * FROM {source} {where} ORDER BY id {'ASC' if ascending else 'DESC'} LIMIT :limit", values
    ).fetchall()
    shown = [_found(connection, row, wanted) for row in rows[: query.limit]]
    return Page[FoundConversation](
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(rows) > query.limit,
    )


def _found(connection: sqlite3.Connection, row: sqlite3.Row, wanted: str) -> FoundConversation:
    head = {name: row[name] for name in Conversation.model_fields}
    if not wanted:
        return FoundConversation(**head)
    text, place = row["title"], None
    if not row["titled"]:
        place = row["message_id"]
        text = connection.execute("SELECT content FROM messages WHERE id = ?", (place,)).fetchone()["content"]
    return FoundConversation(**head, match=Match(message_id=place, excerpt=_excerpt(text, wanted)))


def _excerpt(text: str, wanted: str) -> str:
    """What stands around the first place of `wanted`, on one line."""
    line = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text))
    # folding may lengthen a text, so the place is looked for anew where it did
    place = folded(line).find(re.sub(r"\s+", " ", wanted))
    start = max(0, min(place, len(line)) - _AROUND)
    end = start + 2 * _AROUND + len(wanted)
    return f"{'…' if start else ''}{line[start:end].strip()}{'…' if end < len(line) else ''}"
