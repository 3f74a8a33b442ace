"""``siloquy gateway``: what a clinician's site runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from siloquy import compose
from siloquy.cli.output import Folder, Json, command, log_to_stderr
from siloquy.cli.silo import enrolled, show_made
from siloquy.settings import GatewaySettings, Listen

app = typer.Typer(help="A clinician's site: the page, the router, the answers.")


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
    show_made(folder, compose.init_gateway(folder, name, organisation, settings), json)


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
    with compose.alone(folder):
        asyncio.run(compose.serve_gateway(folder))
