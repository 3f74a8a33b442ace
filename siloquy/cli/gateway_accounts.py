"""``siloquy gateway invite | accounts | disable``: who may sign in with an account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siloquy import settings as settings_files
from siloquy.cli.output import Folder, Json, err, out, print_json, table
from siloquy.errors import SettingsError, UsageError
from siloquy.process import now_ms
from siloquy.settings import GatewaySettings

if TYPE_CHECKING:
    from siloquy.gateway.sign_in.accounts import Accounts

Name = Annotated[str, typer.Argument(help="Whose account; it stands in the silos' ledgers.")]
Roles = Annotated[
    list[str],
    typer.Option("--role", help="clinician, silo_admin, hub_admin, auditor, evaluator; repeat."),
]


def invite(name: Name, folder: Folder, role: Roles, json: Json = False) -> None:
    """Make a one-time link for a new account, or for a new password; good for 24 hours."""
    from siloquy.gateway.api import api_keys

    settings = settings_files.read(GatewaySettings, folder)
    if settings.sign_in.kind != "local":
        raise SettingsError(
            f'sign_in.kind is "{settings.sign_in.kind}", so nobody signs in with an account',
            'set [sign_in] kind = "local" and restart the gateway',
        )
    if api_keys.Keys(folder / api_keys.FILE_NAME, now_ms).holds(name):
        raise UsageError("an API key has that name", "take another name, or revoke the key")
    with accounts_of(folder) as accounts:
        made = accounts.invite(name, role)
    link = f"{settings.home.rstrip('/')}/#/join/{made.token}"
    if json:
        print_json({"name": made.name, "link": link, "expires": made.expires})
        return
    out.print(link, markup=False)
    err.print(f"for {made.name} alone, once, until {_when(made.expires)}")


def show(folder: Folder, json: Json = False) -> None:
    """Every account: roles, last sign-in, and whether it is disabled or waits for its holder."""
    with accounts_of(folder) as accounts:
        found = accounts.all()
    if json:
        print_json({"accounts": [item.plain for item in found]})
        return
    rows = table("name", "shown", "roles", "last seen", "state")
    for item in found:
        state = "disabled" if item.disabled else "waiting" if item.waiting else "active"
        roles = ", ".join(sorted(item.roles))
        rows.add_row(item.name, item.shown, roles, _when(item.last_seen), state)
    out.print(rows)


def disable(name: Name, folder: Folder, json: Json = False) -> None:
    """Keep an account from signing in, and end its sessions, in a running gateway too."""
    with accounts_of(folder) as accounts:
        changed = accounts.change(name, disabled=True)
    if json:
        print_json({"name": changed.name, "disabled": True})
    else:
        out.print(f"{changed.name} cannot sign in any more")


@contextmanager
def accounts_of(folder: Path) -> Iterator[Accounts]:
    """The accounts of the gateway in ``folder``; SettingsError when there is none."""
    from siloquy.gateway.sign_in.accounts import Accounts
    from siloquy.gateway.sign_in.records import FILE_NAME

    settings_files.read(GatewaySettings, folder)
    accounts = Accounts(folder / FILE_NAME, now_ms)
    try:
        yield accounts
    finally:
        accounts.close()


def _when(ms: int | None) -> str:
    if ms is None:
        return ""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
