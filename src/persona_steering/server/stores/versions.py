"""Changes that say what they change: nobody overwrites what somebody else has written meanwhile."""

from __future__ import annotations

from persona_steering.errors import VersionError


def check_version(what: str, version: int, expected: int | None) -> None:
    """Raises VersionError unless `what` still has the version that is meant; None means any."""
    if expected is not None and expected != version:
        raise VersionError(
            f"the {what} has version {version} by now, and version {expected} was to be changed.",
            hint="Read it again, then repeat the change.",
        )
