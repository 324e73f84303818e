"""Where settings and data lie: the user's folders, and the workspace."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from persona_steering.errors import DependencyError

APP_NAME = "persona-steering"
FILE_NAME = "config.yaml"
HOME_VARIABLE = "PERSONA_STEER_HOME"
MARKER = "persona_steering"  # top-level key of a config.yaml that is ours; its value is the file's version


def user_data_dir() -> Path:
    """Where vectors and runs live outside any workspace."""
    return _user_dir("data")


def user_cache_dir() -> Path:
    """What can be deleted at any time."""
    return _user_dir("cache")


def user_state_dir() -> Path:
    """What the programs that run now say of themselves."""
    return _user_dir("state")


def user_config_file() -> Path:
    """The user's own config.yaml, which need not exist."""
    return _user_dir("config") / FILE_NAME


def find_workspace(start: Path | None = None) -> Path | None:
    """The nearest workspace at or above a folder (the current one), or None."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        file = folder / FILE_NAME
        if file.is_file() and ((folder / "vectors").is_dir() or _is_marked(file)):
            return folder
    return None


def _is_marked(file: Path) -> bool:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False  # on the way up lie other people's files
    return re.search(rf"^{MARKER}\s*:", text, re.MULTILINE) is not None


def _user_dir(kind: Literal["data", "config", "cache", "state"]) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser().absolute() / kind
    try:
        import platformdirs
    except ImportError as exc:
        raise DependencyError(
            "the package 'platformdirs' is not installed, so the user's folders are not known.",
            hint=f"Run `pip install platformdirs`, or set {HOME_VARIABLE} to a folder.",
        ) from exc
    dirs = platformdirs.PlatformDirs(APP_NAME, appauthor=False)
    return {
        "data": dirs.user_data_path,
        "config": dirs.user_config_path,
        "cache": dirs.user_cache_path,
        "state": dirs.user_state_path,
    }[kind]
