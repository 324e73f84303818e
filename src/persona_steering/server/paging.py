"""Lists in pages, in the shape of the OpenAI API: an item's own key is the cursor.

An item that is deleted or added between two pages neither repeats another nor hides it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from persona_steering.vectors.values import Closed

Item = TypeVar("Item", bound=BaseModel)

MAX_LIMIT = 100


class PageQuery(Closed):
    """Which page of a list."""

    limit: int = Field(default=20, ge=1, le=MAX_LIMIT, description="how many at most")
    after: str | None = Field(default=None, description="the last_id of the page before; None: the first page")
    order: Literal["asc", "desc"] = Field(default="desc", description="desc: the newest first")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def select_page(
    connection: sqlite3.Connection,
    table: str,
    query: PageQuery,
    make: Callable[[sqlite3.Row], Item],
    *,
    key: str = "id",
    where: Mapping[str, str | None] | None = None,
) -> Page[Item]:
    """The rows of `table` whose columns have the values in `where` (None: any), as items.

    The names of the table and its columns come from this package, never from a request.
    """
    given = {column: value for column, value in (where or {}).items() if value is not None}
    conditions = [f"{column} = ?" for column in given]
    values: list[str | int] = list(given.values())
    if query.after is not None:
        conditions.append(f"{key} {'>' if query.order == 'asc' else '<'} ?")
        values.append(query.after)
    clause = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT * FROM {table} {clause} ORDER BY {key} {query.order} LIMIT ?"
    rows = connection.execute(statement, [*values, query.limit + 1]).fetchall()
    shown = rows[: query.limit]
    return Page[Item](
        data=[make(row) for row in shown],
        first_id=shown[0][key] if shown else None,
        last_id=shown[-1][key] if shown else None,
        has_more=len(rows) > query.limit,
    )


def page_of(items: Sequence[Item], query: PageQuery, key: Callable[[Item], str]) -> Page[Item]:
    """A page of items that are not in the database."""
    ordered = sorted(items, key=key, reverse=query.order == "desc")
    if query.after is not None:
        after = query.after
        ordered = [one for one in ordered if (key(one) > after if query.order == "asc" else key(one) < after)]
    shown = ordered[: query.limit]
    return Page[Item](
        data=shown,
        first_id=key(shown[0]) if shown else None,
        last_id=key(shown[-1]) if shown else None,
        has_more=len(ordered) > query.limit,
    )
