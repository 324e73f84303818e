"""The built page: the files below static/, as they are sent to browsers.

Their names stay the same from version to version, so browsers keep them but ask each time whether they still hold.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
_PACKED_FROM = 1024  # bytes; what is smaller is sent as it is
# not the machine's own table, which may call a script plain text, and then no browser runs it
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page. `packed` is its gzip form, where that is worth its while."""

    content: bytes
    packed: bytes | None
    tag: str
    media_type: str


def is_built() -> bool:
    """Whether this server has a page at all."""
    return (STATIC / INDEX).is_file()


def page_file(name: str) -> PageFile | None:
    """The file of a name such as "assets/index.js"; None where the page has no such file."""
    # looked up among those that are there, so that no name leads elsewhere
    files = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()}
    path = files.get(name)
    return None if path is None else _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=128)
def _read(path: Path, changed: int) -> PageFile:
    content = path.read_bytes()
    # weak, since it stands for both forms
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
    packed = gzip.compress(content, mtime=0) if len(content) >= _PACKED_FROM else None
    return PageFile(content, packed, tag, _MEDIA_TYPES.get(path.suffix, "application/octet-stream"))
