"""The key of a server: where it comes from, and the ways in which somebody shows to have it.

Programs send it with every request. A browser is let in by a link that is good once: the door exchanges it for a
cookie that no script can read and no other site can send, and leads away from the address that held it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from persona_steering.errors import UsageError

SOCKET_PREFIX = "bearer."  # before the key in Sec-WebSocket-Protocol, the one header that a page can set on a WebSocket
_OTHERS = 0o077  # the bits by which others than its owner may use a file


def chosen_key(given: str | None, file: Path | None, *, only_here: bool, unsafe: bool) -> str | None:
    """The key that clients must send: the given one, that of the file, or a new one unless `only_here` or `unsafe`.

    Raises UsageError for a key that cannot be sent, a file that others can read, and for two of them at once.
    """
    if given is not None and file is not None:
        raise UsageError("a key is given, and a file with one too.", hint="Leave out --api-key or --api-key-file.")
    if unsafe and (given is not None or file is not None):
        raise UsageError("--unsafe-no-auth asks for no key, and one is given.", hint="Leave out one of the two.")
    return read_key(file) if file is not None else checked_key(given, needed=not (only_here or unsafe))


def checked_key(given: str | None, *, needed: bool) -> str | None:
    """The key that clients must send: the given one, a new one where it is needed, or None. Raises UsageError."""
    if given is None:
        return secrets.token_urlsafe(24) if needed else None
    if not (given.isascii() and given.isprintable() and given.strip() == given and given):
        raise UsageError("the API key is empty, or has characters that no header can carry.", hint="Use ASCII letters.")
    return given


def read_key(file: Path) -> str:
    """The key in a file, which only its owner may read. Raises UsageError."""
    try:
        with open(file, encoding="ascii") as opened:
            mode = file.stat().st_mode
            text = opened.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise UsageError(f"the key file {file} cannot be read: {reason}.", hint="Name a file with the key.") from error
    if mode & _OTHERS:
        raise UsageError(f"the key file {file} can be read by others.", hint=f"Close it: chmod 600 {file}")
    key = checked_key(text, needed=True)
    assert key is not None
    return key


class Keyring:
    """Knows a key by whichever way it is shown. For any thread."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._session = self._derived("session")
        # not the port's name: two servers of one machine share their cookies
        self._cookie = f"persona-steer-{self._derived('name')[:8]}"
        self._unused = {secrets.token_urlsafe(24)}
        self._lock = threading.Lock()

    def fits(self, authorization: str, cookies: Sequence[str], subprotocols: Sequence[str] = ()) -> bool:
        """Whether a request's headers show the key."""
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "bearer" and self._is_key(token.strip()):
            return True
        offered = [one.removeprefix(SOCKET_PREFIX) for one in subprotocols if one.startswith(SOCKET_PREFIX)]
        return any(map(self._is_key, offered)) or any(map(self._is_session, cookies))

    def link(self, url: str) -> str:
        """The address that lets one browser in, once."""
        with self._lock:
            token = next(iter(self._unused), None)
            if token is None:
                token = secrets.token_urlsafe(24)
                self._unused.add(token)
        return f"{url}/?token={token}"

    def exchange(self, token: str, *, secure: bool) -> str | None:
        """The Set-Cookie header for a link's token, which is used up by this, or for the key; None for another."""
        with self._lock:
            used = [one for one in self._unused if hmac.compare_digest(one.encode(), token.encode())]
            self._unused.difference_update(used)
        if not (used or self._is_key(token)):
            return None
        flags = "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
        return f"{self._cookie}={self._session}; {flags}"

    def _is_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._key)

    def _is_session(self, header: str) -> bool:
        try:
            found = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self._session.encode())

    def _derived(self, use: str) -> str:
        """Shows who has the key without being it."""
        return hmac.new(self._key, f"persona-steer {use}".encode(), hashlib.sha256).hexdigest()
