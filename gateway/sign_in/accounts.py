"""Accounts of a gateway: made by invitation, held by a password that only its holder has known."""

from __future__ import annotations

import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from siloquy import database
from siloquy.errors import UsageError
from siloquy.gateway.sign_in import records
from siloquy.gateway.sign_in.people import (
    ROLES,
    Requester,
    as_text,
    from_text,
    of_account,
    shown_name,
)
from siloquy.types import SiteRole
from siloquy.web.refusals import NotFound

INVITATION_MS = 24 * 3_600_000
MOST_ACCOUNTS = 5000
ADMIN: SiteRole = "silo_admin"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_RESERVED = ("local", "router")
_COLUMNS = "name, id, shown, roles, created, last_seen, disabled, password IS NULL"


@dataclass(frozen=True, slots=True)
class UserAccount:
    """One account; times in ms since 1970.

    waiting   nobody has used its invitation yet
    """

    name: str
    id: str
    shown: str
    roles: frozenset[SiteRole]
    created: int
    last_seen: int | None
    disabled: bool
    waiting: bool

    @property
    def plain(self) -> dict[str, object]:
        """What is told of it: all but its id, which no two accounts ever share."""
        return {
            "name": self.name,
            "shown": self.shown,
            "roles": as_text(self.roles).split(),
            "created": self.created,
            "last_seen": self.last_seen,
            "disabled": self.disabled,
            "waiting": self.waiting,
        }

    @property
    def requester(self) -> Requester:
        """Its holder."""
        return of_account(self.id, self.name, self.shown, self.roles)


@dataclass(frozen=True, slots=True)
class ProvenAccount:
    """An account as it was when somebody proved to be its holder.

    kept   the hash of the password that was good then
    """

    account: UserAccount
    kept: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccountInvitation:
    """A one-time token with which an account's holder chooses the password."""

    name: str
    token: str
    expires: int


class Accounts:
    """The accounts in a gateway's folder; whatever changes one ends its holder's sessions."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        self._connection = records.connect(path)
        self._clock = clock
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # -- invitations ------------------------------------------------------------------------------

    def invite(self, name: str, roles: Iterable[str]) -> AccountInvitation:
        """A link's token for a new account, or a new password of an old one.

        Older tokens of the same name are worthless from now on. UsageError for no name or role.
        """
        if not _NAME.fullmatch(name) or name.casefold() in _RESERVED:
            raise UsageError(
                "that cannot be the name of an account",
                "1 to 64 letters, digits and . _ @ -; it stands in the silos' ledgers",
            )
        checked = check_roles(roles)
        token, expires = records.new_token(), self._clock() + INVITATION_MS
        with self._writing() as rows:
            known = _found(rows, name)
            if known is None:
                self._make(rows, name, checked)
            elif known.roles != checked:
                self._set_roles(rows, known, checked)
            rows.execute(
                "UPDATE accounts SET token = ?, token_expires = ? WHERE name = ?",
                (records.hash_of(token), expires, name),
            )
        return AccountInvitation(known.name if known else name, token, expires)

    def _make(self, rows: sqlite3.Connection, name: str, roles: frozenset[SiteRole]) -> None:
        (count,) = rows.execute("SELECT count(*) FROM accounts").fetchone()
        if count >= MOST_ACCOUNTS:
            raise UsageError(
                f"there are {count} accounts, at most {MOST_ACCOUNTS}", "remove unused ones"
            )
        rows.execute(
            "INSERT INTO accounts (name, id, shown, roles, created) VALUES (?, ?, '', ?, ?)",
            (name, secrets.token_hex(16), as_text(roles), self._clock()),
        )

    def invited(self, token: str) -> UserAccount | None:
        """Whose token it is; None for one that is wrong, used, replaced or too old."""
        with self._lock:
            return self._by_token(token)

    def join(self, token: str, shown: str, password_hash: str) -> ProvenAccount | None:
        """The account with its new password, the token used up; None as ``invited``."""
        with self._writing() as rows:
            account = self._by_token(token)
            if account is None:
                return None
            rows.execute(
                "UPDATE accounts SET password = ?, shown = ?, token = NULL, token_expires = NULL"
                " WHERE name = ?",
                (password_hash, shown_name(shown) or account.shown, account.name),
            )
            _end_sessions(rows, account)
            return ProvenAccount(_existing(rows, account.name), password_hash)

    def _by_token(self, token: str) -> UserAccount | None:
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM accounts"  # noqa: S608
            " WHERE token = ? AND token_expires > ? AND disabled = 0",
            (records.hash_of(token), self._clock()),
        ).fetchone()
        return _account(row) if row else None

    # -- sign-in ----------------------------------------------------------------------------------

    def credentials(self, name: str) -> ProvenAccount | None:
        """An account that may sign in, with its password's hash, which is still to be proven."""
        with self._lock:
            account = _found(self._connection, name)
            if account is None or account.disabled or account.waiting:
                return None
            (kept,) = self._connection.execute(
                "SELECT password FROM accounts WHERE name = ?", (name,)
            ).fetchone()
        return ProvenAccount(account, str(kept))

    def unchanged(self, proven: ProvenAccount) -> bool:
        """Whether its holder may still come in, with the same roles and the same password."""
        account = proven.account
        with self._lock:
            found = self._connection.execute(
                "SELECT 1 FROM accounts"
                " WHERE id = ? AND disabled = 0 AND roles = ? AND password = ?",
                (account.id, as_text(account.roles), proven.kept),
            ).fetchone()
        return found is not None

    def seen(self, account: UserAccount) -> None:
        """Write down that its holder has signed in."""
        with self._writing() as rows:
            rows.execute(
                "UPDATE accounts SET last_seen = ? WHERE id = ?", (self._clock(), account.id)
            )

    def set_password(self, proven: ProvenAccount, password_hash: str) -> ProvenAccount | None:
        """The account with another password; None when it has changed since it was proven."""
        account = proven.account
        with self._writing() as rows:
            done = rows.execute(
                "UPDATE accounts SET password = ? WHERE id = ? AND disabled = 0 AND password = ?",
                (password_hash, account.id, proven.kept),
            )
            if not done.rowcount:
                return None
            _end_sessions(rows, account)
            return ProvenAccount(_existing(rows, account.name), password_hash)

    # -- who has one ------------------------------------------------------------------------------

    def all(self) -> tuple[UserAccount, ...]:
        """Every account, by name."""
        with self._lock:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM accounts ORDER BY name"  # noqa: S608
            ).fetchall()
        return tuple(_account(row) for row in rows)

    def holds(self, name: str) -> bool:
        """Whether there is an account of that name."""
        with self._lock:
            return _found(self._connection, name) is not None

    def of_owner(self, owner: str) -> UserAccount | None:
        """The account of a requester."""
        with self._lock:
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM accounts WHERE 'account:' || id = ?",  # noqa: S608
                (owner,),
            ).fetchone()
        return _account(row) if row else None

    def change(
        self, name: str, roles: Iterable[str] | None = None, disabled: bool | None = None
    ) -> UserAccount:
        """The account with other roles, disabled or enabled; NotFound, UsageError as ``remove``."""
        checked = None if roles is None else check_roles(roles)
        with self._writing() as rows:
            account = _existing(rows, name)
            if checked is not None:
                self._set_roles(rows, account, checked)
            if disabled is not None:
                self._set_disabled(rows, account, disabled)
            return _existing(rows, name)

    def remove(self, name: str) -> UserAccount:
        """The account that was removed; UsageError for the last that can manage accounts."""
        with self._writing() as rows:
            account = _existing(rows, name)
            _check_not_last(rows, account)
            rows.execute("DELETE FROM accounts WHERE id = ?", (account.id,))
            _end_sessions(rows, account)
        return account

    def _set_roles(
        self, rows: sqlite3.Connection, account: UserAccount, roles: frozenset[SiteRole]
    ) -> None:
        if ADMIN not in roles:
            _check_not_last(rows, account)
        rows.execute("UPDATE accounts SET roles = ? WHERE id = ?", (as_text(roles), account.id))
        _end_sessions(rows, account)

    def _set_disabled(self, rows: sqlite3.Connection, account: UserAccount, disabled: bool) -> None:
        if disabled:
            _check_not_last(rows, account)
        rows.execute("UPDATE accounts SET disabled = ? WHERE id = ?", (int(disabled), account.id))
        _end_sessions(rows, account)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, database.transaction(self._connection) as rows:
            yield rows


def check_roles(roles: Iterable[str]) -> frozenset[SiteRole]:
    """The roles; UsageError unless each is one of ``ROLES`` and there is one."""
    wanted = set(roles)
    known = frozenset(role for role in ROLES if role in wanted)
    if not known or len(known) < len(wanted):
        raise UsageError("an account needs roles that there are", f"of {', '.join(ROLES)}")
    return known


def _found(rows: sqlite3.Connection, name: str) -> UserAccount | None:
    row = rows.execute(f"SELECT {_COLUMNS} FROM accounts WHERE name = ?", (name,)).fetchone()  # noqa: S608
    return _account(row) if row else None


def _existing(rows: sqlite3.Connection, name: str) -> UserAccount:
    account = _found(rows, name)
    if account is None:
        raise NotFound("there is no such account", "see `siloquy gateway accounts`")
    return account


def _account(row: tuple[object, ...]) -> UserAccount:
    name, account_id, shown, roles, created, last_seen, disabled, waiting = row
    return UserAccount(
        name=str(name),
        id=str(account_id),
        shown=str(shown),
        roles=from_text(str(roles)),
        created=int(str(created)),
        last_seen=None if last_seen is None else int(str(last_seen)),
        disabled=bool(disabled),
        waiting=bool(waiting),
    )


def _check_not_last(rows: sqlite3.Connection, account: UserAccount) -> None:
    """UsageError when nobody else could manage accounts any more."""
    if ADMIN not in account.roles or account.disabled or account.waiting:
        return
    others = rows.execute(
        "SELECT roles FROM accounts WHERE id <> ? AND disabled = 0 AND password IS NOT NULL",
        (account.id,),
    ).fetchall()
    if not any(ADMIN in from_text(roles) for (roles,) in others):
        raise UsageError(
            f"this is the last account with the role {ADMIN}", "give the role to another one first"
        )


def _end_sessions(rows: sqlite3.Connection, account: UserAccount) -> None:
    rows.execute("DELETE FROM sessions WHERE owner = ?", (account.requester.owner,))
