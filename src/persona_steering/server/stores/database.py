"""The server's database: one SQLite file in the workspace, held by one process.

One connection writes, one thread at a time; readers see the last committed state and wait for nobody (WAL). What a
`write` block has committed survives a killed process and a power cut.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from persona_steering.errors import BusyError, CancelledError, HeldError, PersonaSteeringError, StorageError
from persona_steering.files import storage_error
from persona_steering.server.stores.migrations import MIGRATIONS, Step

APPLICATION_ID = 0x50537472  # in the file's header: tells our files from other programs'
WAIT = 5.0  # seconds for another process, such as a backup, that holds the file
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_HELD = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def database_file(workspace: Path) -> Path:
    """Where the database of a workspace lies."""
    return workspace / "server" / "data.sqlite3"


class Database:
    """Opens the file and brings it to the newest version; makes it where there is none. Any thread may use it.

    Raises: BusyError when another process has the workspace; StorageError for a disk that is full or refuses, and for
    a file that is damaged, is another program's, or was written by a newer version.
    """

    def __init__(self, file: Path, *, migrations: Sequence[Step] = MIGRATIONS, wait: float = WAIT) -> None:
        self.file = file.absolute()
        self._wait = wait
        self._closed = False
        self._writing = threading.Lock()
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._lock = _hold(self.file)
        try:
            with self._explained():
                self._writer = self._connect("rwc")
                try:
                    self._prepare(migrations)
                except BaseException:
                    self._writer.close()
                    raise
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of the block is kept, or nothing when it raises. Not to be nested.

        Raises: StorageError, HeldError when another program holds the file for long, CancelledError once closed.
        """
        with self._writing, self._explained():
            self._check_open()
            with _transaction(self._writer, "BEGIN IMMEDIATE"):
                yield self._writer

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One state of the database, whatever is written meanwhile. Raises as `write`."""
        with self._explained():
            self._check_open()
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._connect("ro")
            try:
                with _transaction(connection, "BEGIN"):
                    yield connection
            finally:
                if self._closed:
                    connection.close()
                else:
                    self._idle.put(connection)

    def close(self) -> None:
        """Waits for a write that is under way, and lets another process have the workspace. Twice is harmless."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            while not self._idle.empty():
                self._idle.get_nowait().close()
            self._writer.close()
            self._lock.release()

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.file.as_uri()}?mode={mode}",
            uri=True,
            timeout=self._wait,
            isolation_level=None,  # transactions begin where this module says so
            check_same_thread=False,  # the lock, or the queue of idle readers, keeps threads apart
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self, migrations: Sequence[Step]) -> None:
        connection = self._writer
        version, owner = _pragma(connection, "user_version"), _pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != APPLICATION_ID:
            raise StorageError(f"{self.file} is another program's database.", hint="Move that file away.")
        if version > len(migrations):
            raise StorageError(
                f"{self.file} was written by a newer version of persona-steering "
                f"(its tables have version {version}, this one knows {len(migrations)}).",
                hint="Update persona-steering, or use another workspace.",
            )
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise self._damaged(damage)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        for number, step in enumerate(migrations[version:], start=version + 1):
            with _transaction(connection, "BEGIN IMMEDIATE"):
                for statement in step:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number}")

    def _check_open(self) -> None:
        if self._closed:
            raise CancelledError("the database is closed, because the server is stopping.", hint="Try again later.")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite's refusals as errors of the tree. A broken constraint or a wrong statement passes as it is."""
        try:
            yield
        except sqlite3.Error as error:
            explained = self._explain(error)
            if explained is None:
                raise
            raise explained from error

    def _explain(self, error: sqlite3.Error) -> PersonaSteeringError | None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where in SQLite it happened
        if code == sqlite3.SQLITE_FULL:
            return StorageError(
                f"{self.file} was not written: the disk is full.",
                hint="Free some space; what was stored before is unharmed.",
            )
        if code in _HELD:
            return HeldError(f"another program holds {self.file}.", hint="Close it, then try again.")
        if code in _DAMAGED:
            return self._damaged(str(error))
        if code in _REFUSED:
            return StorageError(
                f"{self.file} cannot be used: {error}.", hint="Check the permissions of the file and its folder."
            )
        if code == sqlite3.SQLITE_IOERR:
            return StorageError(f"{self.file} cannot be used: {error}.", hint="Check the disk that it lies on.")
        return None

    def _damaged(self, reason: str) -> StorageError:
        return StorageError(
            f"{self.file} is damaged: {reason}.",
            hint="Put a backup in its place, or move it away: the server then starts with an empty one.",
        )


def _hold(file: Path) -> FileLock:
    """Keeps other processes, and another `Database` of this one, off the file."""
    lock = FileLock(file.with_suffix(".lock"), thread_local=False)  # closed in another thread than it was opened in
    try:
        # what people say to a model is nobody else's business
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"another server has the workspace {file.parent.parent}.", hint="Stop it, or use another workspace."
        ) from error
    except OSError as error:
        raise storage_error(error, file) from error
    return lock


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()  # also after a commit that failed; harmless where SQLite has done it already
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
