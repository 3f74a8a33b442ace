"""Connections and transactions of SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from siloquy.database import SharedCommits, connect, transaction
from siloquy.errors import StorageFailed

SCHEMA = """
CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS child (
    id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED
);
"""


def test_a_new_file_is_private(tmp_path: Path) -> None:
    with_log = tmp_path / "deep" / "store.db"
    connection = connect(with_log, SCHEMA)
    with transaction(connection):
        connection.execute("INSERT INTO parent VALUES (1)")
    modes = {path.stat().st_mode & 0o777 for path in with_log.parent.iterdir()}
    connection.close()
    assert modes == {0o600}


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    first = connect(tmp_path / "store.db", SCHEMA)
    with transaction(first):
        first.execute("INSERT INTO parent VALUES (7)")
    first.close()
    second = connect(tmp_path / "store.db", SCHEMA, durable=False)
    rows = second.execute("SELECT id FROM parent").fetchall()
    second.close()
    assert rows == [(7,)]


def test_commits_are_synced_unless_they_can_be_rebuilt(tmp_path: Path) -> None:
    modes = []
    for durable in (True, False):
        connection = connect(tmp_path / "store.db", SCHEMA, durable=durable)
        modes.append(connection.execute("PRAGMA synchronous").fetchone()[0])
        connection.close()
    assert modes == [2, 0]


def test_a_failing_block_writes_nothing(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.db", SCHEMA)
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.executemany("INSERT INTO parent VALUES (?)", [(1,), (1,)])
    count = connection.execute("SELECT count(*) FROM parent").fetchone()[0]
    connection.close()
    assert count == 0


def test_the_write_lock_is_taken_at_once_and_who_waits_in_vain_is_told(tmp_path: Path) -> None:
    first, second = (connect(tmp_path / "store.db", SCHEMA) for _ in range(2))
    second.execute("PRAGMA busy_timeout = 0")
    with (
        transaction(first),
        pytest.raises(
            StorageFailed, match=r"^store\.db cannot be used: database is locked"
        ) as told,
        transaction(second),
    ):
        pass
    first.close()
    second.close()
    assert str(tmp_path) not in told.value.message
    assert told.value.hint.startswith("another process holds it")
    assert told.value.hint.endswith(str(tmp_path / "store.db"))


def test_a_file_that_is_no_database_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(StorageFailed, match=r"^store\.db cannot be used: file is not") as told:
        connect(path, SCHEMA)
    assert told.value.hint.startswith("the file is damaged")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("")
    with pytest.raises(StorageFailed, match=r"^store\.db cannot be written"):
        connect(tmp_path / "node" / "store.db", SCHEMA)


def test_a_defect_of_a_statement_stays_one(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.db", SCHEMA)
    with pytest.raises(sqlite3.OperationalError, match="no such table"), transaction(connection):
        connection.execute("INSERT INTO nowhere VALUES (1)")
    connection.close()


def test_a_failed_commit_leaves_the_connection_usable(tmp_path: Path) -> None:
    connection = connect(tmp_path / "store.db", SCHEMA)
    try:
        with pytest.raises(sqlite3.IntegrityError), transaction(connection):
            connection.execute("INSERT INTO child VALUES (404)")
        with transaction(connection):
            connection.execute("INSERT INTO parent VALUES (1)")
    finally:
        connection.close()


# -- shared commits -------------------------------------------------------------------------------


class Disk:
    """A lock that is held until ``released``, so that work piles up behind it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def pile_up(self, commits: SharedCommits, jobs: Sequence[Callable[..., Any]]) -> list[Any]:
        """What each job gives back or raises, all of them waiting before the first begins."""
        with ThreadPoolExecutor(len(jobs)) as pool, self.lock:
            futures = [pool.submit(commits.run, job) for job in jobs]
            while len(commits._waiting) < len(jobs):
                time.sleep(0.001)
            self.lock.release()
            try:
                return [future.exception() or future.result() for future in futures]
            finally:
                self.lock.acquire()


@pytest.fixture
def numbers(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(tmp_path / "numbers.db", "CREATE TABLE n (n INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


def add(n: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO n VALUES (?)", (n,))
        if n < 0:
            raise ValueError("negative")
        return n

    return work


def stored(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM n ORDER BY n")]


def test_work_that_waits_together_is_committed_once(numbers: sqlite3.Connection) -> None:
    statements: list[str] = []
    numbers.set_trace_callback(statements.append)
    disk = Disk()
    done = disk.pile_up(SharedCommits(numbers, disk.lock), [add(n) for n in range(8)])
    assert (done, stored(numbers)) == (list(range(8)), list(range(8)))
    assert statements.count("COMMIT") == 1


def test_work_that_raises_is_undone_alone(numbers: sqlite3.Connection) -> None:
    disk = Disk()
    done = disk.pile_up(SharedCommits(numbers, disk.lock), [add(1), add(-1), add(2)])
    assert ([done[0], done[2]], stored(numbers)) == ([1, 2], [1, 2])
    assert isinstance(done[1], ValueError)


def test_what_the_database_refuses_fails_all_of_its_company(numbers: sqlite3.Connection) -> None:
    disk = Disk()
    commits = SharedCommits(numbers, disk.lock)
    done = disk.pile_up(commits, [add(1), add(1)])
    assert [type(error) for error in done] == [sqlite3.IntegrityError] * 2
    assert stored(numbers) == []
    assert commits.run(add(1)) == 1


def test_nothing_is_acknowledged_that_a_full_disk_did_not_take(numbers: sqlite3.Connection) -> None:
    (size,) = numbers.execute("PRAGMA page_count").fetchone()
    numbers.execute(f"PRAGMA max_page_count = {size}")
    disk = Disk()
    commits = SharedCommits(numbers, disk.lock)
    wide = [lambda c: c.execute("CREATE TABLE t AS SELECT randomblob(100000) AS b"), add(5)]
    done = disk.pile_up(commits, wide)
    assert [type(error) for error in done] == [StorageFailed] * 2
    assert stored(numbers) == []
    assert commits.run(add(6)) == 6


def test_what_is_stored_at_the_same_time_is_all_there(numbers: sqlite3.Connection) -> None:
    commits = SharedCommits(numbers, threading.Lock())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: commits.run(add(n)), range(200))) == list(range(200))
    assert stored(numbers) == list(range(200))
