"""One way to open SQLite: write-ahead log, full durability, foreign keys, private files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def connect(path: Path, schema: str, *, durable: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode with ``schema`` applied; write inside ``transaction``.

    durable   fsync every commit; False for caches that can be rebuilt
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(schema)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All statements inside or none of them; takes the write lock at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # A COMMIT that fails may leave the transaction open or, on a full disk, end it by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
