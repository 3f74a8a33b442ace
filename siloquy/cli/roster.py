"""``siloquy roster``: who belongs, and the founders' signatures that say so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from siloquy.cli.output import Folder, Json, Yes, command, err, out, print_json, table
from siloquy.codec import decode, to_json
from siloquy.errors import PolicyDenied, SettingsError
from siloquy.process import now_ms
from siloquy.settings import EncoderSettings
from siloquy.text.embed import encoder_spec
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import ROSTER_FILE, SignedRoster
from siloquy.types import Member

app = typer.Typer(help="The signed list of members: the root of trust.")

RosterFile = Annotated[Path, typer.Argument(help="A roster file, or a node's folder.")]


@command(app, "found")
def found(
    federation: Annotated[str, typer.Option(help="Name of the federation.")],
    hub: Annotated[Path, typer.Option(help="The hub's `card` file.")],
    founder: Annotated[list[Path], typer.Option(help="A founder's `card` file; repeat.")],
    threshold: Annotated[int, typer.Option(help="Founders who must sign each roster.")],
    to: Annotated[Path, typer.Option("--out", help="Where to write version 1.")],
    member: Annotated[
        list[Path] | None, typer.Option(help="Another member's `card` file; repeat.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Encoder folder; empty for the packaged one.")] = "",
    json: Json = False,
) -> None:
    """Draft version 1 of a roster from the members' public cards."""
    founders = [_card(path) for path in founder]
    members = [_card(hub), *founders, *(_card(path) for path in member or ())]
    spec = encoder_spec(EncoderSettings(model=encoder))
    roster = rosters.found(federation, founders, threshold, spec, members, now_ms())
    signed = SignedRoster(roster, {})
    rosters.save(signed, to)
    if json:
        print_json({"file": str(to), "federation": signed.fingerprint})
        return
    out.print(f"drafted {escape(str(to))}; {threshold} founders sign it with `siloquy roster sign`")
    out.print(f"federation fingerprint  [bold]{signed.fingerprint}[/]")


def _card(path: Path) -> Member:
    try:
        card = decode(Member, path.read_bytes())
    except OSError:
        raise SettingsError(f"{path} cannot be read", "name a node's `card` file") from None
    identities.check_card(card)
    return card


@command(app, "show")
def show(roster_file: RosterFile, json: Json = False) -> None:
    """Every member with its fingerprint, and who signed."""
    signed = _load(roster_file)
    if json:
        print_json({"roster": to_json(signed.roster), "federation": signed.fingerprint})
        return
    _print(signed)


@command(app, "sign")
def sign(
    roster_file: Annotated[Path, typer.Argument(help="The drafted roster file.")],
    folder: Folder,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Add a founder's signature, after comparing the fingerprints of who joins."""
    signed = rosters.load(roster_file)
    identity = identities.load(folder)
    known = folder / ROSTER_FILE
    before: tuple[Member, ...] = ()
    if known.exists():
        pinned = rosters.load(known)
        before = pinned.roster.members
        if pinned.head != signed.head:
            rosters.check_follows(pinned, signed)
    err.print(
        f"{escape(signed.roster.federation)}  version {signed.roster.version}  federation "
        f"{signed.fingerprint}  {signed.roster.threshold} of {len(signed.roster.founders)} "
        f"founders  encoder {escape(signed.roster.encoder.name)}"
    )
    joining = [card for card in signed.roster.members if card not in before]
    leaving = [c for c in before if c.node not in {m.node for m in signed.roster.members}]
    for card in joining:
        word = "new keys" if card.node in {old.node for old in before} else "joins"
        err.print(f"{word}  {card.role} {card.node}  {fingerprint(card.signing_key)}")
    for card in leaving:
        err.print(f"leaves  {card.role} {card.node}")
    if not yes and not typer.confirm("Did you compare these fingerprints out of band?", err=True):
        raise PolicyDenied("not signed")
    rosters.save(rosters.add_signature(signed, identity), roster_file)
    count = len(rosters.load(roster_file).signatures)
    if json:
        print_json({"signatures": count, "needed": signed.roster.threshold})
        return
    out.print(f"signed: {count} of {signed.roster.threshold} needed signatures")


@command(app, "verify")
def verify(
    roster_file: RosterFile,
    federation: Annotated[
        str | None, typer.Option(help="Federation fingerprint that it must have.")
    ] = None,
    json: Json = False,
) -> None:
    """Check the founders' signatures and every member's card."""
    signed = _load(roster_file)
    rosters.check_genesis(signed, federation)
    if json:
        print_json({"version": signed.roster.version, "federation": signed.fingerprint})
        return
    out.print(
        f"version {signed.roster.version} holds: {len(signed.signatures)} founders' signatures, "
        f"{signed.roster.threshold} needed; federation {signed.fingerprint}"
    )


def _load(path: Path) -> SignedRoster:
    return rosters.load(path / ROSTER_FILE if path.is_dir() else path)


def _print(signed: SignedRoster) -> None:
    roster = signed.roster
    out.print(
        f"{escape(roster.federation)}  version {roster.version}  federation {signed.fingerprint}  "
        f"signatures {len(signed.signatures)} of {roster.threshold} needed"
    )
    out.print(f"encoder {roster.encoder.name}, {roster.encoder.dimension} dimensions")
    shown = table("node", "role", "organisation", "founder", "fingerprint")
    for card in roster.members:
        founder = "yes" if card.signing_key in roster.founders else ""
        shown.add_row(
            card.node, card.role, escape(card.organisation), founder, fingerprint(card.signing_key)
        )
    out.print(shown)
