"""What the server writes to its log: lines for people, or a JSON object a line for machines."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["plain", "json"]
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request in which something is done, also in the thread of a route."""
FIELDS = "fields"  # of `extra`: what a line says beside its message


class JsonLines(logging.Formatter):
    """{"time", "level", "logger", "message", "request_id", ...} with the fields that the line has."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := REQUEST_ID.get()) is not None:
            line["request_id"] = request
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)  # escaped: a path that was asked for may hold halves of characters


def set_up_logging(stream: TextIO, *, form: LogFormat, level: int) -> None:
    """Sends what this package says from `level` on, and what all others say from WARNING on, to `stream`."""
    handler = logging.StreamHandler(stream)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else plain)
    logging.basicConfig(handlers=[handler])
    logging.getLogger("persona_steering").setLevel(level)
