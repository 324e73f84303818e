"""The paths of the two earlier systems: which they are, what follows each of them, and how errors read there.

Their clients move over unchanged. Every answer says that the path is deprecated (RFC 9745), and where to go instead.
"""

from __future__ import annotations

from persona_steering.server.errors import ApiError, body_of

DEPRECATED_SINCE = 1_795_219_200  # 2026-11-21: they were never meant for new clients

# The first that fits. A path fits with all that lies below it.
_SUCCESSORS: tuple[tuple[str, str], ...] = (
    ("/api/status", "/api/v1/system"),
    ("/api/health", "/healthz"),
    ("/api/load-model", "/api/v1/models/load"),
    ("/api/models/test", "/v1/chat/completions"),
    ("/api/models", "/api/v1/models"),
    ("/api/personas", "/api/v1/personas"),
    ("/api/traits", "/api/v1/traits"),
    ("/api/vectors", "/api/v1/traits"),
    ("/api/chat", "/v1/chat/completions"),
    ("/api/steering-scale", "/api/v1/steering/validate"),
    ("/api/steering", "/api/v1/compare"),
    ("/ws/chat", "/api/v1/live"),
    ("/visualization", "/"),
)


def successor(path: str) -> str | None:
    """What follows a path of an earlier system; None for any other path."""
    for alias, after in _SUCCESSORS:
        if path == alias or path.startswith(f"{alias}/"):
            return after
    return None


def deprecation(path: str) -> dict[str, str]:
    """The headers that say so; none for a path that is here to stay."""
    after = successor(path)
    if after is None:
        return {}
    return {"deprecation": f"@{DEPRECATED_SINCE}", "link": f'<{after}>; rel="successor-version"'}


def body_at(path: str, error: ApiError, request_id: str) -> dict[str, object]:
    """An error as clients of `path` read it: `{"detail": ...}` where the earlier systems said it so."""
    return body_of(error, request_id) if successor(path) is None else {"detail": str(error)}
