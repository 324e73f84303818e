"""Run by test_conversations.py in a process of its own: a server in the middle of an answer, to be killed there.

Once some of the answer is stored, the conversation and that text are written out. Usage: talking_server.py WORKSPACE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.server.api import make_state, running

from persona_steering.server.door.security import Door


def main(workspace: str) -> None:
    with running(make_state(Path(workspace)), Door.at("127.0.0.1")) as api, api.client() as http:
        it = http.post("/api/v1/conversations", json={}).json()["id"]
        body = {"content": "hello", "sampling": {"seed": 5, "max_tokens": 1900}, "stream": True}
        with http.stream("POST", f"/api/v1/conversations/{it}/messages", json=body) as response:
            lines = response.iter_lines()
            while not (heard := api.state.conversations.path(it)[-1].content if next(lines) else ""):
                pass
            sys.stdout.write(f"{json.dumps([it, heard])}\n")
            sys.stdout.flush()
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
