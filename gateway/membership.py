"""Who belongs to the federation, and what a gateway knows of each: as people look at it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from siloquy.gateway.attendance import Attended
from siloquy.gateway.rounds import shared_organisation
from siloquy.router.account import Account, SiloAccount
from siloquy.router.profile import Opened
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import SignedRoster
from siloquy.types import EncoderSpec, Member, NodeId, Profile, Role, Sealing


@dataclass(frozen=True, slots=True)
class Site:
    """A node and who runs it."""

    node: NodeId
    organisation: str


@dataclass(frozen=True, slots=True)
class HubSite:
    """The hub, and whether this gateway's line to it stands."""

    node: NodeId
    organisation: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """What a silo's profile says of itself; ``epsilon`` is None where it is told without noise."""

    version: int
    created: int
    expires: int
    size: int
    epsilon: float | None
    sealing: Sealing


@dataclass(frozen=True, slots=True)
class Trust:
    """What a silo's word has been worth, as ``siloquy gateway router`` tells it.

    struck   when a claim last did not fit, Unix milliseconds
    asked    whether it may be asked
    probe    share of the probes of its newest profile that it met; None before any
    """

    verified: int
    strikes: int
    struck: int | None
    asked: bool
    probe: float | None


@dataclass(frozen=True, slots=True)
class SiloSeen:
    """One silo of the roster as this gateway knows it.

    refused          why its newest profile was not taken; empty where it was
    trust, quota     None before anything was checked
    quota            how many of the k best it may win
    missing_lately   of the questions since the gateway started
    """

    node: NodeId
    organisation: str
    fingerprint: str
    profile: Shown | None
    refused: str
    trust: Trust | None
    quota: int | None
    missing_lately: Attended


@dataclass(frozen=True, slots=True)
class Promise:
    """What the router promises: the share of the best passages by intent, None for nothing yet.

    audits   those that count so far, of ``needed``
    broken   whether a promise broke, and the audits since do not carry another yet
    """

    questions: int
    audits: int
    needed: int
    broken: bool
    precise: float | None
    diverse: float | None
    fast: float | None


@dataclass(frozen=True, slots=True)
class FederationSeen:
    """All of ``GET /v1/federation``."""

    federation: str
    fingerprint: str
    roster_version: int
    gateway: Site
    hub: HubSite
    silos: tuple[SiloSeen, ...]
    promise: Promise | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """One member of the roster, its signing key as a fingerprint."""

    node: NodeId
    role: Role
    organisation: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RosterSeen:
    """All of ``GET /v1/roster``: ``founders`` are fingerprints."""

    federation: str
    fingerprint: str
    version: int
    created: int
    threshold: int
    founders: tuple[str, ...]
    encoder: EncoderSpec
    members: tuple[MemberSeen, ...]


def roster_seen(signed: SignedRoster) -> RosterSeen:
    """The roster without keys and signatures."""
    roster = signed.roster
    return RosterSeen(
        federation=roster.federation,
        fingerprint=signed.fingerprint,
        version=roster.version,
        created=roster.created,
        threshold=roster.threshold,
        founders=tuple(fingerprint(key) for key in roster.founders),
        encoder=roster.encoder,
        members=tuple(
            MemberSeen(card.node, card.role, card.organisation, fingerprint(card.signing_key))
            for card in roster.members
        ),
    )


def federation_seen(
    signed: SignedRoster,
    gateway: Member,
    opened: Opened,
    account: Account | None,
    attended: Callable[[NodeId], Attended],
    *,
    connected: bool,
) -> FederationSeen:
    """The federation from ``gateway``, whose router's ``account`` is None before it has one."""
    silos, hub = signed.of_role("silo"), signed.hub
    profiles = {profile.silo: profile for profile in opened.profiles}
    refused = {item.silo: item.detail or item.reason for item in opened.refused}
    accounts = {item.silo: item for item in account.silos} if account else {}
    return FederationSeen(
        federation=signed.roster.federation,
        fingerprint=signed.fingerprint,
        roster_version=signed.roster.version,
        gateway=Site(gateway.node, gateway.organisation),
        hub=HubSite(hub.node, hub.organisation, connected),
        silos=tuple(
            SiloSeen(
                node=card.node,
                organisation=card.organisation,
                fingerprint=fingerprint(card.signing_key),
                profile=_shown(profiles.get(card.node)),
                refused=refused.get(card.node, ""),
                trust=_trust(accounts.get(card.node)),
                quota=accounts[card.node].wins if card.node in accounts else None,
                missing_lately=attended(card.node),
            )
            for card in silos
        ),
        promise=_promise(account),
        warnings=shared_organisation(signed, gateway, [card.node for card in silos]),
    )


def _shown(profile: Profile | None) -> Shown | None:
    if profile is None:
        return None
    return Shown(
        profile.version,
        profile.created,
        profile.expires,
        profile.size,
        profile.epsilon,
        profile.sealing,
    )


def _trust(account: SiloAccount | None) -> Trust | None:
    if account is None:
        return None
    return Trust(account.verified, account.strikes, account.struck, account.asked, account.probe)


def _promise(account: Account | None) -> Promise | None:
    if account is None:
        return None
    return Promise(
        account.questions,
        account.audits,
        account.needed,
        account.broken,
        account.promised["precise"],
        account.promised["diverse"],
        account.promised["fast"],
    )
