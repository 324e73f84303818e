"""Run by test_soak.py in a process of its own, so that memory and threads are the server's alone.

Usage: soaked_server.py WORKSPACE. Prints its address, and stops when its standard input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.server.api import make_state, running

from persona_steering.server.door.security import Door


def main(workspace: str) -> None:
    with running(make_state(Path(workspace)), Door.at("127.0.0.1")) as api:
        sys.stdout.write(f"{api.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
