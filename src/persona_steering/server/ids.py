"""Identifiers that sort by time (ULIDs), with a prefix that says what they name: `job_01J8Z3...`."""

from __future__ import annotations

import os
import re
import threading
import time

from persona_steering.errors import UsageError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O or U
_RANDOM_BITS = 80
_LENGTH = 26
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """An identifier that sorts after all that this process has made before it."""
    global _last
    with _lock:
        number = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(_RANDOM_BITS // 8))
        # Within a millisecond, and where the clock was set back, the order is kept by counting on.
        _last = max(number, _last + 1)
        number = _last
    digits = [_ALPHABET[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def check_id(value: str, prefix: str) -> str:
    """The identifier itself. Raises UsageError for anything that `new_id(prefix)` cannot have made."""
    if not re.fullmatch(rf"{prefix}_[{_ALPHABET}]{{{_LENGTH}}}", value):
        raise UsageError(f"{value[:64]!r} is no identifier of this kind.", hint=f"They look like {prefix}_01J8Z3....")
    return value
