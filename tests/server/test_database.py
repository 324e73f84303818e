"""The file under the server: who may have it, what survives, and what it says when it cannot be used."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from persona_steering.errors import BusyError, CancelledError, HeldError, StorageError
from persona_steering.server.stores.conversations import ConversationStore
from persona_steering.server.stores.database import Database, database_file
from persona_steering.server.stores.migrations import MIGRATIONS


def version_of(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_a_new_file_has_the_newest_version_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    file = database_file(tmp_path / "workspace")
    Database(file).close()
    assert version_of(file) == len(MIGRATIONS)
    assert file.parent.stat().st_mode & 0o077 == 0


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    file = database_file(tmp_path)
    database = Database(file)
    made = ConversationStore(database).create(title="Kept")
    database.close()
    again = Database(file)
    assert ConversationStore(again).get(made.id) == made
    again.close()


def test_a_file_of_version_zero_is_brought_to_the_newest(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    file.touch()
    database = Database(file)
    ConversationStore(database).create()
    database.close()
    assert version_of(file) == len(MIGRATIONS)


def test_an_older_file_gets_the_steps_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    database = Database(file)
    made = ConversationStore(database).create(title="Old")
    database.close()
    step = ("CREATE TABLE added (name TEXT)", "INSERT INTO added SELECT title FROM conversations")
    newer = Database(file, migrations=(*MIGRATIONS, step))
    with newer.read() as connection:
        assert connection.execute("SELECT name FROM added").fetchone()["name"] == "Old"
    assert ConversationStore(newer).get(made.id) == made
    newer.close()
    assert version_of(file) == len(MIGRATIONS) + 1


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    Database(file).close()
    broken = ("CREATE TABLE half (name TEXT)", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database(file, migrations=(*MIGRATIONS, broken))
    again = Database(file)
    with again.read() as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone() is None
    again.close()


def test_a_second_server_is_refused_and_may_have_it_when_the_first_has_closed(tmp_path: Path) -> None:
    file = database_file(tmp_path)
    first = Database(file)
    with pytest.raises(BusyError, match="another server has the workspace") as refused:
        Database(file)
    assert str(tmp_path) in refused.value.message
    first.close()
    first.close()
    Database(file).close()


def test_a_second_server_in_another_process_is_refused(database: Database) -> None:
    code = (
        "import sys, pathlib; from persona_steering.server.stores.database import Database;"
        " Database(pathlib.Path(sys.argv[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(database.file)], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "BusyError" in run.stderr


def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    Database(file, migrations=(*MIGRATIONS, ("CREATE TABLE later (x)",))).close()
    before = file.read_bytes()
    with pytest.raises(StorageError, match="newer version") as refused:
        Database(file)
    assert "Update persona-steering" in refused.value.hint
    assert file.read_bytes() == before


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(StorageError, match="another program's"):
        Database(file)
    connection = sqlite3.connect(file)
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["bookmarks"]
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StorageError, match="damaged") as refused:
        Database(file)
    assert "backup" in refused.value.hint


def test_a_file_damaged_in_the_middle_is_found_when_it_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    database = Database(file)
    store = ConversationStore(database)
    for _ in range(40):
        store.create(title="x" * 900)
    database.close()
    size = file.stat().st_size
    with open(file, "r+b") as opened:
        opened.seek(size // 2 // 4096 * 4096)
        opened.write(os.urandom(4096))
    with pytest.raises(StorageError, match="damaged"):
        Database(file)


def test_after_a_refusal_nothing_keeps_the_next_one_out(tmp_path: Path) -> None:
    file = tmp_path / "data.sqlite3"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError):
        Database(file)
    file.unlink()
    Database(file).close()


def test_a_full_disk_is_said_and_what_was_there_stays_usable(database: Database) -> None:
    store = ConversationStore(database)
    kept = store.create(title="before")
    with database.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="disk is full") as refused:
        store.add_message(kept.id, "user", "x" * 100_000)
    assert "Free some space" in refused.value.hint
    assert store.get(kept.id) == kept
    with database.write() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert store.add_message(kept.id, "user", "x" * 100_000).content == "x" * 100_000


def test_a_folder_that_is_not_writable_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser could write everywhere
    with pytest.raises(StorageError, match="not writable"):
        Database(database_file(tmp_path / "closed"))


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "server").write_text("")
    with pytest.raises(StorageError):
        Database(database_file(tmp_path))


def test_another_program_that_holds_the_file_is_said(tmp_path: Path) -> None:
    database = Database(tmp_path / "data.sqlite3", wait=0.05)
    other = sqlite3.connect(database.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HeldError, match="another program holds"):
        ConversationStore(database).create()
    other.execute("ROLLBACK")
    other.close()
    ConversationStore(database).create()
    database.close()


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    store = ConversationStore(database)
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute("INSERT INTO presets VALUES ('a', '', '{}', 0, 0, 1)")
        raise RuntimeError
    assert store.page().data == []
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM presets").fetchone()[0] == 0


def test_a_reader_sees_one_state_and_waits_for_no_writer(database: Database) -> None:
    store = ConversationStore(database)
    with database.read() as connection:
        before = connection.execute("SELECT count(*) FROM conversations").fetchone()[0]
        store.create()
        assert connection.execute("SELECT count(*) FROM conversations").fetchone()[0] == before
    assert len(store.page().data) == before + 1


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError, match="readonly"), database.read() as connection:
        connection.execute("DELETE FROM conversations")


def test_many_threads_write_and_read_at_once(database: Database) -> None:
    store = ConversationStore(database)
    conversation = store.create()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                node = store.add_message(conversation.id, "user", "hello")
                assert node in store.tree(conversation.id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.tree(conversation.id)) == 120
    assert store.get(conversation.id).version == 121


def test_a_closed_database_says_that_the_server_is_stopping(tmp_path: Path) -> None:
    database = Database(tmp_path / "data.sqlite3")
    store = ConversationStore(database)
    database.close()
    for call in (store.create, store.page):
        with pytest.raises(CancelledError, match="stopping"):
            call()
