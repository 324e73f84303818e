"""The state file: where the server of a workspace runs, for whoever wants to use the same model.

One small file a workspace, `server-<digest>.json` in the user's state folder. It may hold a key, so nobody else can
read it. A killed server leaves its file; it is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from persona_steering.config import Config, user_state_dir
from persona_steering.files import write_atomically


class Presence(BaseModel):
    """What a running server says of itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer version may say more

    url: str
    pid: int
    key: str | None = None
    workspace: Path
    model: str | None = None  # as its user named it; None while there is none
    started: float


class Announcement:
    """The state file of one server, this process. Any thread may change it."""

    def __init__(self, config: Config, url: str, *, key: str | None = None) -> None:
        workspace = config.workspace.resolve()
        self._presence = Presence(url=url, pid=os.getpid(), key=key, workspace=workspace, started=time.time())
        self._path, self._writing, self._gone = state_file(workspace), threading.Lock(), False

    def tell(self, model: str | None) -> None:
        """Says that the server is there with this model, or without one. Raises StorageError."""
        with self._writing:
            if not self._gone:
                self._presence = self._presence.model_copy(update={"model": model})
                write_atomically(self._path, f"{self._presence.model_dump_json(indent=1)}\n".encode(), private=True)

    def withdraw(self) -> None:
        """Removes the file, unless it is another server's by now."""
        with self._writing:
            self._gone = True
            found = _read(self._path)
            if found is not None and (found.pid, found.url) == (self._presence.pid, self._presence.url):
                with contextlib.suppress(OSError):
                    self._path.unlink(missing_ok=True)


def find_presence(config: Config) -> Presence | None:
    """What the server of the workspace said of itself; None where there is none, or its process is gone.

    Whether it answers is not asked.
    """
    workspace = config.workspace.resolve()
    found = _read(state_file(workspace))
    return found if found is not None and found.workspace == workspace and _lives(found.pid) else None


def state_file(workspace: Path) -> Path:
    """Where the state file of a workspace lies."""
    digest = hashlib.sha256(str(workspace.resolve()).encode()).hexdigest()[:16]
    return user_state_dir() / f"server-{digest}.json"


def _read(path: Path) -> Presence | None:
    try:
        return Presence.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _lives(pid: int) -> bool:
    """Whether there is such a process. Where that cannot be asked, its port will tell."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # somebody else's
    return pid > 0
