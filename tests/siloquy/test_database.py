"""Connections and transactions of SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from siloquy.database import connect, transaction
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
