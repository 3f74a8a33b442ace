"""``siloquy doctor``: what could keep a node from working, found before it does."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from siloquy import settings as settings_files
from siloquy.errors import SiloquyError
from siloquy.process import now_ms
from siloquy.sealed import scoring as sealed
from siloquy.serve import nodes
from siloquy.settings import (
    EncoderSettings,
    GatewaySettings,
    HubSettings,
    SiloSettings,
)
from siloquy.text.embed import encoder_spec
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import ROSTER_FILE, SignedRoster
from siloquy.wire.channel import HubConnection, check_encoder, dial

T = TypeVar("T")
State = Literal["ok", "skipped", "warning", "broken"]

LEAST_FREE_GB = 2
MOST_SKEW_S = 10.0
EXTRAS = {
    "hnswlib": 'index.kind = "hnswlib"; install siloquy[hnsw], it needs a C++ compiler',
    "ray": "parallel ingest inside one site; install siloquy[ray]",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found and, unless it is ok, how to mend it."""

    check: str
    state: State
    found: str
    fix: str = ""


def examine(folders: Iterable[Path]) -> list[Finding]:
    """Findings about this machine, then about each node's folder."""
    findings = [_python(), _disk(Path.cwd()), _encoder(EncoderSettings()), _sealed(), *_extras()]
    for folder in folders:
        findings += list(_node(folder))
    return findings


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _disk(path: Path) -> Finding:
    free_gb = shutil.disk_usage(path).free / 1e9
    if free_gb < LEAST_FREE_GB:
        return Finding("disk", "broken", f"{free_gb:.1f} GB free", "free some space")
    return Finding("disk", "ok", f"{free_gb:.0f} GB free")


def _encoder(settings: EncoderSettings) -> Finding:
    try:
        spec = encoder_spec(settings)
    except SiloquyError as error:
        return Finding("encoder", "broken", error.message, error.hint)
    found = f"{spec.name}, {spec.dimension} dimensions, weights {spec.sha256[:12]} as expected"
    return Finding("encoder", "ok", found)


def _sealed() -> Finding:
    """Whether sealed questions can be asked, scored or merged here: the library is tried."""
    try:
        sealed.check()
    except SiloquyError as error:
        return Finding("sealed mode", "skipped", error.message, error.hint)
    return Finding("sealed mode", "ok", "TenSEAL as pinned, 128-bit parameters, tried")


def _extras() -> Iterator[Finding]:
    for module, use in EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Finding(module, "ok", "installed")
        else:
            yield Finding(module, "skipped", "not installed", f"only for {use}")


def _node(folder: Path) -> Iterator[Finding]:
    try:
        identity = identities.load(folder)
    except SiloquyError as error:
        yield Finding(f"{folder.name}: identity", "broken", error.message, error.hint)
        return
    name = identity.node
    yield Finding(f"{name}: identity", "ok", f"{identity.card.role}, keys private")
    yield _private(folder, name)
    settings = _attempt(f"{name}: settings", lambda: _settings(folder, identity))
    yield settings[0]
    roster = _attempt(f"{name}: roster", lambda: _roster(folder))
    yield roster[0]
    if isinstance(settings[1], SiloSettings | GatewaySettings) and roster[1] is not None:
        yield from _line(identity, settings[1], roster[1], folder)
        yield from _interests(identity, roster[1])
    if isinstance(settings[1], GatewaySettings):
        yield _sign_in(name, settings[1])
    if isinstance(settings[1], SiloSettings):
        yield _policy(name, settings[1])
        yield _store(folder, name, settings[1])


def _attempt(check: str, attempt: Callable[[], T]) -> tuple[Finding, T | None]:
    try:
        result = attempt()
    except SiloquyError as error:
        return Finding(check, "broken", error.message, error.hint), None
    return Finding(check, "ok", "holds"), result


def _settings(folder: Path, identity: Identity) -> SiloSettings | GatewaySettings | HubSettings:
    if identity.card.role == "hub":
        return settings_files.read(HubSettings, folder)
    if identity.card.role == "silo":
        return settings_files.read(SiloSettings, folder)
    return settings_files.read(GatewaySettings, folder)


def _roster(folder: Path) -> SignedRoster:
    roster = rosters.load(folder / ROSTER_FILE)
    rosters.check_genesis(roster)
    return roster


def _private(folder: Path, name: str) -> Finding:
    mode = folder.stat().st_mode & 0o777
    if mode & 0o007:
        return Finding(
            f"{name}: folder",
            "warning",
            f"mode {mode:o}: others can look in",
            f"chmod 700 {folder}",
        )
    return Finding(f"{name}: folder", "ok", f"mode {mode:o}")


def _member(identity: Identity, roster: SignedRoster) -> Finding:
    check = f"{identity.node}: membership"
    if identity.card not in roster.roster.members:
        return Finding(
            check,
            "broken",
            "this node's card is not in the roster",
            "ask the founders to sign it in; the node then joins by itself",
        )
    return Finding(check, "ok", f"roster version {roster.roster.version}")


def _line(
    identity: Identity, settings: SiloSettings | GatewaySettings, roster: SignedRoster, folder: Path
) -> Iterator[Finding]:
    """Encoder, hub, TLS and clock, by joining once as the node itself would."""
    try:
        spec = encoder_spec(settings.encoder)
        check_encoder(spec, roster.roster.encoder)
        yield Finding(f"{identity.node}: encoder", "ok", "the federation's")
    except SiloquyError as error:
        yield Finding(f"{identity.node}: encoder", "broken", error.message, error.hint)
        return

    async def join() -> HubConnection:
        # Dialled as a newcomer: dialling as the node would take the line from the serving process.
        link, key = nodes.link_of(settings, folder), roster.hub.signing_key
        joined = await dial(link, identity, spec, None, hub_key=key)
        await joined.socket.close()
        return joined

    found, joined = _attempt(f"{identity.node}: hub line", lambda: asyncio.run(join()))
    yield found
    yield _member(identity, roster if joined is None else _newer(roster, joined))
    if joined is not None:
        skew_s = abs(joined.welcome.now - now_ms()) / 1000
        state: State = "ok" if skew_s < MOST_SKEW_S else "broken"
        fix = "" if state == "ok" else "set the clock by NTP; envelopes expire by it"
        yield Finding(f"{identity.node}: clock", state, f"{skew_s:.1f} s from the hub's", fix)


def _newer(pinned: SignedRoster, joined: HubConnection) -> SignedRoster:
    """What the node will follow once it serves."""
    try:
        return rosters.advance(pinned, rosters.from_bytes(joined.welcome.roster))
    except SiloquyError:
        return pinned


def _interests(identity: Identity, roster: SignedRoster) -> Iterator[Finding]:
    """Sealed mode trusts the hub not to collude: said when it would have to with itself."""
    own = identity.card.organisation
    if roster.hub.organisation == own:
        yield Finding(
            f"{identity.node}: interests",
            "warning",
            f"the hub is run by {own}, as this node is",
            "sealed mode protects nothing against that organisation",
        )


def _sign_in(name: str, settings: GatewaySettings) -> Finding:
    kind, url = settings.sign_in.kind, settings.sign_in.url
    if kind == "none" and url:
        return Finding(
            f"{name}: sign-in",
            "warning",
            f"sign_in.url is {url} and nobody has to sign in: who reaches it may do everything",
            'set sign_in.kind to "local" or "oidc"',
        )
    found = "nobody has to sign in; for this machine alone" if kind == "none" else kind
    return Finding(f"{name}: sign-in", "ok", found)


def _policy(name: str, settings: SiloSettings) -> Finding:
    if not settings.policy.gateways:
        return Finding(
            f"{name}: policy",
            "warning",
            "no gateway is approved: nothing is answered",
            'name gateways in [policy] gateways = ["..."]',
        )
    wanted = ", ".join(settings.policy.sealed)
    if wanted and _sealed().state != "ok":
        return Finding(
            f"{name}: policy",
            "broken",
            f"collections that answer sealed questions alone ({wanted}), and none can be scored",
            "install siloquy[he], or empty policy.sealed",
        )
    alone = f"; sealed questions alone: {wanted}" if wanted else ""
    found = f"answers {', '.join(settings.policy.gateways)}{alone}"
    return Finding(f"{name}: policy", "ok", found)


def _store(folder: Path, name: str, settings: SiloSettings) -> Finding:
    from siloquy.silo_node.store import Store

    if not (folder / "silo.sqlite").exists():
        return Finding(f"{name}: store", "warning", "empty", "`siloquy silo ingest` fills it")
    store = Store(folder / "silo.sqlite")
    try:
        store.check_encoder(encoder_spec(settings.encoder))
        counts = store.counts()
    except SiloquyError as error:
        return Finding(f"{name}: store", "broken", error.message, error.hint)
    finally:
        store.close()
    found = f"{counts.documents:,} documents, {counts.passages:,} passages"
    if counts.quarantined:
        return Finding(
            f"{name}: store",
            "warning",
            f"{found}, {counts.quarantined} quarantined",
            "`siloquy silo status` lists them with the reason",
        )
    return Finding(f"{name}: store", "ok", found)
