"""``siloquy hub``: what the federation's operator runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from siloquy import crash
from siloquy import settings as settings_files
from siloquy.aggregator.registry import Invitation, Registry
from siloquy.cli.output import Folder, Json, command, err, log_to_stderr, out, print_json, table
from siloquy.cli.silo import show_made
from siloquy.errors import UsageError
from siloquy.process import alone, now_ms
from siloquy.serve import nodes
from siloquy.settings import HubSettings, Listen
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust import tls
from siloquy.trust.identity import check_name, fingerprint
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster

app = typer.Typer(help="The relay: it merges candidates and can read no question or passage.")


@command(app, "init")
def init(
    folder: Folder,
    organisation: Annotated[str, typer.Option(help="Who runs it.")],
    name: Annotated[str, typer.Option(help="Node name in the federation.")] = "hub",
    url: Annotated[str, typer.Option(help="How nodes reach it.")] = "wss://127.0.0.1:8443",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8443,
    json: Json = False,
) -> None:
    """Make a hub: keys, a TLS certificate, settings to edit."""
    settings = HubSettings(listen=Listen(host, port), url=url)
    show_made(folder, nodes.init_hub(folder, name, organisation, settings), json)


@command(app, "serve")
def serve(folder: Folder) -> None:
    """Relay and merge."""
    log_to_stderr()
    from siloquy.serve.hub import serve_hub

    with alone(folder):
        asyncio.run(serve_hub(folder))


@command(app, "invite")
def invite(
    name: Annotated[str, typer.Argument(help="Name that the new node will bear.")],
    folder: Folder,
    role: Annotated[Literal["silo", "gateway"], typer.Option(help="What it will be.")] = "silo",
    json: Json = False,
) -> None:
    """Print a one-time invitation for a new node, good for 72 hours."""
    identity = identities.load(folder)
    settings = settings_files.read(HubSettings, folder)
    pinned = PinnedRoster(folder / ROSTER_FILE)
    node = check_name(name)
    registry = Registry(folder / "hub.sqlite")
    secret = registry.invite(node, role, now_ms())
    registry.close()
    invitation = Invitation(
        url=settings.url,
        node=node,
        role=role,
        secret=secret,
        hub_key=identity.card.signing_key,
        certificate=tls.certificate_hash(folder / settings.certificate),
        federation=pinned.current.fingerprint,
    )
    if json:
        print_json({"invitation": invitation.token(), "federation": pinned.current.fingerprint})
        return
    err.print(f"Give this to {node}'s administrator over a safe channel; it works once:")
    out.print(invitation.token())
    err.print(f"federation fingerprint to compare by telephone: {pinned.current.fingerprint}")


@command(app, "status")
def status(folder: Folder, json: Json = False) -> None:
    """Who is connected, who waits for the founders."""
    pinned = PinnedRoster(folder / ROSTER_FILE)
    registry = Registry(folder / "hub.sqlite")
    members = pinned.current.roster.members
    presence = {item.node: item for item in registry.presence()}
    pending = registry.pending(members)
    profiles = registry.profiles()
    counters = registry.counters()
    registry.close()
    rows = [
        {
            "node": card.node,
            "role": card.role,
            "organisation": card.organisation,
            "connected": card.node in presence and presence[card.node].connected,
            "profile_bytes": len(profiles.get(card.node, b"")),
            "fingerprint": fingerprint(card.signing_key),
        }
        for card in members
        if card.role != "hub"
    ]
    waiting = [
        {"node": c.node, "role": c.role, "fingerprint": fingerprint(c.signing_key)} for c in pending
    ]
    if json:
        print_json(
            {
                "federation": pinned.current.fingerprint,
                "roster_version": pinned.current.roster.version,
                "members": rows,
                "pending": waiting,
                "refused": counters,
            }
        )
        return
    out.print(
        f"{escape(pinned.current.roster.federation)}  roster version "
        f"{pinned.current.roster.version}  federation {pinned.current.fingerprint}"
    )
    shown = table("node", "role", "organisation", "line", "profile", "fingerprint")
    for row in rows:
        line = "[green]up[/]" if row["connected"] else "[red]down[/]"
        size = f"{row['profile_bytes']:,} B" if row["profile_bytes"] else "-"
        shown.add_row(
            str(row["node"]),
            str(row["role"]),
            escape(str(row["organisation"])),
            line,
            size,
            str(row["fingerprint"]),
        )
    out.print(shown)
    for item in waiting:
        out.print(f"waiting for the founders: {item['role']} {item['node']}  {item['fingerprint']}")


@command(app, "draft")
def draft(
    folder: Folder,
    to: Annotated[Path, typer.Option("--out", help="Where to write the unsigned next roster.")],
    without: Annotated[list[str] | None, typer.Option(help="A node to leave out; repeat.")] = None,
    json: Json = False,
) -> None:
    """Draft the next roster with all waiting nodes, for the founders to sign."""
    pinned = PinnedRoster(folder / ROSTER_FILE)
    registry = Registry(folder / "hub.sqlite")
    registry.forget([check_name(name) for name in without or ()])
    joining = registry.pending(pinned.current.roster.members)
    leaving = {*(without or ()), *(card.node for card in joining)}
    members = [card for card in pinned.current.roster.members if card.node not in leaving]
    members += joining
    registry.close()
    roster = rosters.succeed(pinned.current, members, now_ms())
    rosters.save(rosters.SignedRoster(roster, {}), to)
    if json:
        print_json({"version": roster.version, "members": len(members), "file": str(to)})
        return
    out.print(
        f"version {roster.version} with {len(members)} members drafted in {escape(str(to))}; "
        f"{roster.threshold} founders sign it with `siloquy roster sign`, then `siloquy hub adopt`"
    )


@command(app, "adopt")
def adopt(
    roster_file: Annotated[Path, typer.Argument(help="The signed roster.")],
    folder: Folder,
    json: Json = False,
) -> None:
    """Take a signed roster; a running hub hands it to every node."""
    offered = rosters.load(roster_file)
    path = folder / ROSTER_FILE
    if path.exists():
        PinnedRoster(path).follow(rosters.to_bytes(offered))
        crash.point("roster-adopted")
        registry = Registry(folder / "hub.sqlite")
        registry.forget([card.node for card in offered.roster.members])
        registry.close()
    else:
        rosters.check_genesis(offered)
        if offered.hub != identities.load(folder).card:
            raise UsageError("the roster names another hub than this one")
        rosters.save(offered, path)
    if json:
        print_json({"version": offered.roster.version, "federation": offered.fingerprint})
        return
    out.print(f"roster version {offered.roster.version} adopted")
