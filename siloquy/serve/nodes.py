"""A node's folder: made with its keys, and enrolled with an invitation."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from siloquy import settings as settings_files
from siloquy.aggregator.registry import Invitation
from siloquy.codec import encode
from siloquy.errors import IntegrityError, SettingsError
from siloquy.settings import (
    GatewaySettings,
    HubLink,
    HubSettings,
    SiloSettings,
)
from siloquy.text.embed import encoder_spec
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust import tls
from siloquy.trust.identity import Identity
from siloquy.trust.roster import ROSTER_FILE
from siloquy.types import Role
from siloquy.wire.calls import Enrolment, Verb
from siloquy.wire.channel import Channel, HubConnection, check_encoder, dial

if TYPE_CHECKING:
    pass

HUB_CERTIFICATE_FILE = "hub.pem"


# -- making nodes ---------------------------------------------------------------------------------


def init_silo(folder: Path, name: str, organisation: str, settings: SiloSettings) -> Identity:
    """A new silo's folder: keys made here, settings to edit."""
    return _init(folder, name, "silo", organisation, settings)


def init_gateway(folder: Path, name: str, organisation: str, settings: GatewaySettings) -> Identity:
    """A new gateway's folder."""
    return _init(folder, name, "gateway", organisation, settings)


def init_hub(folder: Path, name: str, organisation: str, settings: HubSettings) -> Identity:
    """A new hub's folder, with a TLS certificate of its own unless one is configured."""
    identity = _init(folder, name, "hub", organisation, settings)
    certificate = folder / settings.certificate
    if not certificate.exists():
        host = urlsplit(settings.url).hostname
        if not host:
            raise SettingsError(f"url is {settings.url!r}", "use wss://HOST:PORT")
        tls.create(host, certificate, folder / settings.key)
    return identity


def _init(folder: Path, name: str, role: Role, organisation: str, settings: object) -> Identity:
    identity = identities.create(name, role, organisation)
    identities.save(identity, folder)
    settings_files.write(settings, folder)
    return identity


# -- enrolling ------------------------------------------------------------------------------------


async def enrol(folder: Path, token: str, federation: str | None) -> rosters.SignedRoster:
    """Use an invitation: the roster is pinned, the card waits at the hub for the founders.

    federation   the fingerprint that a founder told; IntegrityError when the roster's differs
    """
    identity = identities.load(folder)
    invitation = Invitation.parse(token)
    _check_invited(identity, invitation)
    settings = _node_settings(identity, folder)
    link = replace(settings.hub, url=invitation.url, certificate="")
    spec = encoder_spec(settings.encoder)
    joined = await dial(
        link,
        identity,
        spec,
        None,
        hub_key=invitation.hub_key,
        certificate_hash=invitation.certificate,
    )
    channel = Channel(joined.socket, joined.hub.node, {})
    reader = asyncio.create_task(channel.run())
    try:
        roster = rosters.from_bytes(joined.welcome.roster)
        rosters.check_genesis(roster, federation or invitation.federation)
        check_encoder(spec, roster.roster.encoder)
        await channel.call(Verb.ENROL, encode(Enrolment(invitation.secret)), 10.0)
    finally:
        await channel.close()
        await reader
    _pin(folder, roster, joined)
    hub = replace(link, certificate=HUB_CERTIFICATE_FILE)
    settings_files.write(replace(settings, hub=hub), folder)
    return roster


def _node_settings(identity: Identity, folder: Path) -> SiloSettings | GatewaySettings:
    """As they stand in the file: what the environment overrides now is not written back."""
    if identity.card.role == "silo":
        return settings_files.read(SiloSettings, folder, {})
    return settings_files.read(GatewaySettings, folder, {})


def link_of(settings: SiloSettings | GatewaySettings, folder: Path) -> HubLink:
    """The line to the hub; a relative certificate lies in the node's folder."""
    link = settings.hub
    if not link.certificate:
        return link
    certificate = folder / link.certificate
    if not certificate.is_file():
        raise SettingsError(
            f"hub.certificate {certificate} is missing",
            "enrol again, or copy the hub's tls.pem there",
        )
    return replace(link, certificate=str(certificate))


def _check_invited(identity: Identity, invitation: Invitation) -> None:
    if (identity.node, identity.card.role) != (invitation.node, invitation.role):
        raise IntegrityError(
            f"the invitation is for {invitation.role} {invitation.node}, "
            f"this is {identity.card.role} {identity.node}"
        )


def _pin(folder: Path, roster: rosters.SignedRoster, joined: HubConnection) -> None:
    pinned = folder / ROSTER_FILE
    if pinned.exists():
        rosters.advance(rosters.load(pinned), roster)
    rosters.save(roster, pinned)
    pem = ssl.DER_cert_to_PEM_cert(joined.certificate)
    (folder / HUB_CERTIFICATE_FILE).write_text(pem)
