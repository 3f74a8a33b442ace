"""The file of a gateway's sign-in: accounts, sessions and the log of who came in."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from pathlib import Path

from siloquy import database

FILE_NAME = "sign_in.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY COLLATE NOCASE, id TEXT NOT NULL UNIQUE, shown TEXT NOT NULL,
    roles TEXT NOT NULL, password TEXT, created INTEGER NOT NULL, last_seen INTEGER,
    disabled INTEGER NOT NULL DEFAULT 0, token BLOB UNIQUE, token_expires INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    hash BLOB PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL,
    shown TEXT NOT NULL, roles TEXT NOT NULL, created INTEGER NOT NULL, seen INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sessions_by_owner ON sessions (owner, created);
CREATE TABLE IF NOT EXISTS sign_ins (
    n INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL,
    kind TEXT NOT NULL, ok INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS sign_ins_of_somebody ON sign_ins (n) WHERE who <> '';
CREATE INDEX IF NOT EXISTS sign_ins_of_nobody ON sign_ins (n) WHERE who = '';
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made when it is not there."""
    connection = database.connect(path, _SCHEMA)
    # Deleted sessions and accounts are overwritten in the file, not only unlinked.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def new_token() -> str:
    """32 random bytes as text: nobody finds one by trying."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> bytes:
    """What is kept of a token: who reads the file cannot use it."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
