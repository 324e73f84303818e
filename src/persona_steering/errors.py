"""The one error tree. A message says what happened; `hint` says what to do next.

    PersonaSteeringError              1
    ├── UsageError                    2   an argument that cannot be honoured
    │   ├── RecipeError                   a recipe, blend, strength, scope or layer that is not valid
    │   ├── PromptError                   a prompt or an answer that cannot be read
    │   │   └── ContextLengthError            one that is longer than the context
    │   └── ConflictError                 a change that does not fit what is there now
    │       └── VersionError                  it was meant for another version
    ├── ConfigError                   3   a configuration file, key or value
    ├── NotFoundError                 4   an unknown persona, trait, archetype, vector or file
    ├── ServerError                   5   a server that cannot be reached or refuses
    │   └── ServerRefusalError            one that answered, with a status that says no
    ├── ModelError                    6   a model that cannot be loaded or run
    │   ├── LayerDiscoveryError           the decoder blocks were not found, or failed their check
    │   ├── DeviceError                   a device that is not there
    │   └── ModelMemoryError              out of memory, also at batch size one
    ├── QualityError                  7   a measured threshold that was not met
    ├── VectorError                   8   a vector that is refused
    │   ├── VectorFileError               truncated, wrong shape, not finite, pickled, unknown format
    │   └── ModelMismatchError            a vector made for another model
    ├── StorageError                  9   a disk that is full or not writable
    ├── CapabilityError              10   a backend that cannot do what a request asks
    ├── DependencyError              11   an optional package that is not installed
    ├── BusyError                    75   somebody else holds what is needed; try again
    │   └── HeldError                         a file that another program holds
    └── CancelledError              130   stopped on request

The number is the exit code of the command line. Subclasses inherit it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class PersonaSteeringError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(PersonaSteeringError):
    """An argument that cannot be honoured."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe, blend, strength, scope or layer that is not valid."""


class PromptError(UsageError):
    """A prompt or given answer that is empty, or that the model cannot read."""


class ContextLengthError(PromptError):
    """A prompt that leaves no room for the answer in the model's context."""


class ConflictError(UsageError):
    """A change that does not fit what is there now: somebody else was faster, or it was asked twice."""


class VersionError(ConflictError):
    """A change that was meant for another version of what is there now."""


class ConfigError(PersonaSteeringError):
    """A configuration file, key or value that is not valid."""

    exit_code = 3


class NotFoundError(PersonaSteeringError):
    """An unknown persona, trait, archetype, vector or file."""

    exit_code = 4


class ServerError(PersonaSteeringError):
    """A server that cannot be reached or refuses."""

    exit_code = 5


class ServerRefusalError(ServerError):
    """A server that answered, with a status that says no. `said` is its own reason; times are in seconds."""

    def __init__(
        self, message: str, *, status: int, said: str, retry_after: float | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.said, self.retry_after = status, said, retry_after


class ModelError(PersonaSteeringError):
    """A model that cannot be loaded or run."""

    exit_code = 6


class LayerDiscoveryError(ModelError):
    """The decoder blocks were not found, or failed the check against hidden_states."""


class DeviceError(ModelError):
    """A device that is not there."""


class ModelMemoryError(ModelError):
    """Out of memory, also at batch size one."""


class QualityError(PersonaSteeringError):
    """A measured threshold that was not met."""

    exit_code = 7


class VectorError(PersonaSteeringError):
    """A vector that is refused."""

    exit_code = 8


class VectorFileError(VectorError):
    """A file that is truncated, of the wrong shape, not finite, pickled or of unknown format."""


class ModelMismatchError(VectorError):
    """A vector that was made for another model."""


class StorageError(PersonaSteeringError):
    """A disk that is full or not writable."""

    exit_code = 9


class CapabilityError(PersonaSteeringError):
    """A backend that cannot do what a request asks."""

    exit_code = 10


class DependencyError(PersonaSteeringError):
    """An optional package that is not installed."""

    exit_code = 11


class BusyError(PersonaSteeringError):
    """Somebody else holds what is needed; trying again may work."""

    exit_code = 75


class HeldError(BusyError):
    """A file that another program holds."""


class CancelledError(PersonaSteeringError):
    """Stopped on request."""

    exit_code = 130


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence that names the closest choices, or all of them when they are few."""
    known = sorted(set(choices))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    if 0 < len(known) <= 20:
        return f"Known: {', '.join(known)}."
    return ""


def unknown(kind: str, name: str, choices: Iterable[str], *, hint: str = "") -> NotFoundError:
    """The error for a name that does not exist, with the nearest names that do."""
    return NotFoundError(f"unknown {kind} {name!r}.", hint=f"{nearest(name, choices)} {hint}".strip())
