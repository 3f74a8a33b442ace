"""``siloquy gateway``: what a clinician's site runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siloquy.cli import gateway_accounts, gateway_router
from siloquy.cli.output import Folder, Json, command, err, log_to_stderr, out, print_json, table
from siloquy.cli.silo import enrolled, show_made
from siloquy.errors import SettingsError, UsageError
from siloquy.gateway.api.feedback import DIMENSIONS
from siloquy.process import alone, now_ms
from siloquy.serve import nodes
from siloquy.settings import FILE_NAME, GatewaySettings, Listen

if TYPE_CHECKING:
    from siloquy.gateway.api.api_keys import Keys

app = typer.Typer(help="A clinician's site: the page, the router, the answers.")
keys = typer.Typer(help="Who may use the API.", no_args_is_help=True)
app.add_typer(keys, name="key")
command(app, "router")(gateway_router.show)
command(app, "pardon")(gateway_router.pardon)
command(app, "calibrate")(gateway_router.calibrate)
command(app, "invite")(gateway_accounts.invite)
command(app, "accounts")(gateway_accounts.show)
command(app, "disable")(gateway_accounts.disable)
Name = Annotated[str, typer.Argument(help="Whose key; it stands in the silos' ledgers.")]


@command(app, "init")
def init(
    name: Annotated[str, typer.Option(help="Node name in the federation.")],
    folder: Folder,
    organisation: Annotated[str, typer.Option(help="Who runs it.")],
    port: Annotated[int, typer.Option(help="Port of the page, on this machine.")] = 8080,
    json: Json = False,
) -> None:
    """Make a gateway: keys that never leave this folder, and settings to edit."""
    settings = GatewaySettings(listen=Listen(port=port))
    show_made(folder, nodes.init_gateway(folder, name, organisation, settings), json)


@command(app, "enroll")
def enroll(
    token: Annotated[str, typer.Argument(help="The invitation from `siloquy hub invite`.")],
    folder: Folder,
    federation: Annotated[
        str | None, typer.Option(help="Federation fingerprint that a founder told you.")
    ] = None,
    json: Json = False,
) -> None:
    """Use a one-time invitation; the founders' signatures then let the node in."""
    enrolled(token, folder, federation, json)


@command(app, "serve")
def serve(folder: Folder) -> None:
    """Serve the page and the API on this machine."""
    log_to_stderr()
    from siloquy.serve.gateway import serve_gateway

    with alone(folder):
        asyncio.run(serve_gateway(folder))


@command(keys, "add")
def add_key(name: Name, folder: Folder, json: Json = False) -> None:
    """Make an API key; it is shown now and never again. A running gateway knows it at once."""
    with gateway_accounts.accounts_of(folder) as accounts:
        if accounts.holds(name):
            raise UsageError("an account has that name", "take another name: ledgers show both")
    key = _opened(folder).add(name)
    if json:
        print_json({"name": name, "key": key})
        return
    out.print(key)
    err.print(f"the key of {name}: keep it safe, it is not shown again")


@command(keys, "list")
def list_keys(folder: Folder, json: Json = False) -> None:
    """Every key that was ever made, without the keys."""
    records = _opened(folder).all()
    if json:
        print_json({"keys": records})
        return
    rows = table("name", "made", "revoked")
    for record in records:
        rows.add_row(record.name, _when(record.created), _when(record.revoked))
    out.print(rows)


@command(keys, "revoke")
def revoke_key(name: Name, folder: Folder, json: Json = False) -> None:
    """Make a key worthless, in a running gateway too."""
    _opened(folder).revoke(name)
    if json:
        print_json({"name": name, "revoked": True})
    else:
        out.print(f"the key of {name} is revoked")


@command(app, "feedback")
def feedback(folder: Folder, json: Json = False) -> None:
    """What clinicians said of answers, for evaluators; --json gives questions and answers too."""
    from siloquy.gateway.api import conversations

    _check_node(folder)
    opened = conversations.Conversations(folder / conversations.FILE_NAME, now_ms)
    judged = opened.judged()
    opened.close()
    if json:
        print_json({"feedback": judged})
        return
    rows = table("dimension", "yes", "no", "not said")
    for name in DIMENSIONS:
        said = [getattr(item.judgement, name) for item in judged]
        rows.add_row(name, *(str(said.count(value)) for value in (True, False, None)))
    out.print(rows)
    out.print(f"{len(judged)} answers judged; --json gives each with its comment")


def _opened(folder: Path) -> Keys:
    from siloquy.gateway.api import api_keys

    _check_node(folder)
    return api_keys.Keys(folder / api_keys.FILE_NAME, now_ms)


def _check_node(folder: Path) -> None:
    if not (folder / FILE_NAME).exists():
        raise SettingsError(f"{folder} holds no node", "make one with `siloquy gateway init` first")


def _when(ms: int | None) -> str:
    return (
        "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    )
