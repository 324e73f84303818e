"""Run by test_jobs.py in a process of its own: a conversation, and a job that kills the process in the middle.

Usage: killed_server.py WORKSPACE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.server.counting import make_runner

from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database, database_file


def main(workspace: str) -> None:
    database = Database(database_file(Path(workspace)))
    conversations = ConversationStore(database)
    talk = conversations.create(title="Survives")
    question = conversations.add_message(talk.id, "user", "Will you remember?")
    conversations.add_message(talk.id, "assistant", "I was just", parent_id=question.id, status="writing")
    runner = make_runner(database)
    params = {"to": 5, "kill_at": 3, "file": str(Path(workspace) / "counted.txt")}
    job = runner.submit("count", params, idempotency_key="once")
    runner.submit("count", {"name": "waiting"})
    runner.start()
    for _ in runner.store.follow(job.id):
        pass
    raise AssertionError("it was to be killed")


if __name__ == "__main__":
    main(*sys.argv[1:])
