"""What models are called where others see it: in reports, and by a server."""

from __future__ import annotations

from pathlib import Path


def public_id(given: str) -> str:
    """The model's name for others: without "hf:", and of a folder its last part only."""
    name = given.removeprefix("hf:")
    return Path(name).name if Path(name).is_dir() else name
