"""One way to open SQLite: write-ahead log, full durability, foreign keys, private files.

What the disk refuses comes out as StorageFailed and names the file; nothing of the transaction is
kept then, and the connection works again as soon as the disk does. The folder stands in the hint
alone, which is for the file's owner: the message may go to other nodes.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from siloquy.errors import SettingsError, SiloquyError, StorageFailed

T = TypeVar("T")
_HINTS = {
    sqlite3.SQLITE_FULL: "the disk is full: make room; it goes on by itself",
    sqlite3.SQLITE_READONLY: "mount the disk writable and check the file's owner and mode",
    sqlite3.SQLITE_PERM: "check the file's owner and mode",
    sqlite3.SQLITE_CANTOPEN: "is the folder there and writable, and is there room on the disk?",
    sqlite3.SQLITE_IOERR: "is the disk full or failing? see the system's log",
    sqlite3.SQLITE_BUSY: "another process holds it: is one stopped in the middle of its work?",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is damaged: restore it from a backup",
}
_PRIMARY = 0xFF


def connect(path: Path, schema: str, *, durable: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode with ``schema`` applied; write inside ``transaction``.

    durable   fsync every commit; False for caches that can be rebuilt
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise file_failed(path, error) from None
    with named(path):
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=30, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(schema)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All statements inside or none of them; takes the write lock at once.

    StorageFailed when the disk does not take it; other errors of SQLite as they are.
    """
    with reading(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # A COMMIT that fails may leave the transaction open or, on a full disk, end it itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


class SharedCommits:
    """Runs the work of many threads in shared transactions: who waits for the disk waits once.

    While one commit is on its way to the disk, what comes in meanwhile is done in the next.
    """

    def __init__(
        self, connection: sqlite3.Connection, lock: AbstractContextManager[object]
    ) -> None:
        self._connection = connection
        self._lock = lock
        self._waiting: deque[_Job[Any]] = deque()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` gives back, once it is committed.

        What it raises undoes it alone; what the disk refuses undoes and fails all of its company.
        """
        job = _Job(work)
        self._waiting.append(job)
        with self._lock:
            # Another thread may have done it on its turn.
            if not job.done:
                self._commit()
        return job.outcome()

    def _commit(self) -> None:
        company: list[_Job[Any]] = []
        while self._waiting:
            company.append(self._waiting.popleft())
        try:
            with transaction(self._connection) as connection:
                for job in company:
                    job.attempt(connection)
        except BaseException as error:
            for job in company:
                job.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for job in company:
                job.done = True


class _Job(Generic[T]):
    """One thread's work and what came of it."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._work = work
        self._results: list[T] = []

    def attempt(self, connection: sqlite3.Connection) -> None:
        """Do it inside the company's transaction; raises what ends that for all."""
        connection.execute("SAVEPOINT job")
        try:
            self._results.append(self._work(connection))
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - raised again in the thread whose work it is
            self.error = error
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def outcome(self) -> T:
        """The result, or its error raised."""
        if self.error is not None:
            raise self.error
        return self._results[0]


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """Inside, what the disk refuses is raised as StorageFailed."""
    try:
        yield
    except sqlite3.Error as error:
        if not _of_the_disk(error):
            raise
        (_, _, path), *_ = connection.execute("PRAGMA database_list")
        raise _failed(Path(path), error) from None


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Inside, what the disk refuses is raised as StorageFailed about ``path``."""
    try:
        yield
    except sqlite3.Error as error:
        if not _of_the_disk(error):
            raise
        raise _failed(path, error) from None


def file_failed(path: Path, error: OSError) -> SiloquyError:
    """What to raise when a file cannot be written: a path that is wrong is no failing disk."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return SettingsError(f"{path}: {error.strerror}", "check path and rights")
    return StorageFailed(
        f"{path.name} cannot be written: {error.strerror or type(error).__name__}",
        f"make room on the disk, and check the file's owner and mode: {path}",
    )


def _of_the_disk(error: sqlite3.Error) -> bool:
    # An error that the module raises by itself has no code.
    return _code(error) in _HINTS


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY


def _failed(path: Path, error: sqlite3.Error) -> StorageFailed:
    # SQLite's own words for these codes are fixed and quote no data.
    return StorageFailed(f"{path.name} cannot be used: {error}", f"{_HINTS[_code(error)]}: {path}")
