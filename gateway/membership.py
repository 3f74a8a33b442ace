"""Who belongs to the federation, and what a gateway knows of each: as people look at it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from siloquy.gateway.attendance import SiloAttendance
from siloquy.router.account import RouterReport, SiloReport
from siloquy.router.profile import OpenedProfiles
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import SignedRoster, shared_organisation
from siloquy.types import EncoderSpec, Member, NodeId, Profile, Role, Sealing


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node and who runs it."""

    node: NodeId
    organisation: str


@dataclass(frozen=True, slots=True)
class HubView:
    """The hub, and whether this gateway's line to it stands."""

    node: NodeId
    organisation: str
    connected: bool


@dataclass(frozen=True, slots=True)
class ProfileView:
    """What a silo's profile says of itself; ``epsilon`` is None where it is told without noise."""

    version: int
    created: int
    expires: int
    size: int
    epsilon: float | None
    sealing: Sealing


@dataclass(frozen=True, slots=True)
class TrustView:
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
class SiloView:
    """One silo of the roster as this gateway knows it.

    refused          why its newest profile was not taken; empty where it was
    trust, quota     None before anything was checked
    quota            how many of the k best it may win
    missing_lately   of the questions since the gateway started
    """

    node: NodeId
    organisation: str
    fingerprint: str
    profile: ProfileView | None
    refused: str
    trust: TrustView | None
    quota: int | None
    missing_lately: SiloAttendance


@dataclass(frozen=True, slots=True)
class PromiseView:
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
class FederationView:
    """All of ``GET /v1/federation``."""

    federation: str
    fingerprint: str
    roster_version: int
    gateway: NodeView
    hub: HubView
    silos: tuple[SiloView, ...]
    promise: PromiseView | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member of the roster, its signing key as a fingerprint."""

    node: NodeId
    role: Role
    organisation: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RosterView:
    """All of ``GET /v1/roster``: ``founders`` are fingerprints."""

    federation: str
    fingerprint: str
    version: int
    created: int
    threshold: int
    founders: tuple[str, ...]
    encoder: EncoderSpec
    members: tuple[MemberView, ...]


def roster_view(signed: SignedRoster) -> RosterView:
    """The roster without keys and signatures."""
    roster = signed.roster
    return RosterView(
        federation=roster.federation,
        fingerprint=signed.fingerprint,
        version=roster.version,
        created=roster.created,
        threshold=roster.threshold,
        founders=tuple(fingerprint(key) for key in roster.founders),
        encoder=roster.encoder,
        members=tuple(
            MemberView(card.node, card.role, card.organisation, fingerprint(card.signing_key))
            for card in roster.members
        ),
    )


def federation_view(
    signed: SignedRoster,
    gateway: Member,
    opened: OpenedProfiles,
    account: RouterReport | None,
    attended: Callable[[NodeId], SiloAttendance],
    *,
    connected: bool,
) -> FederationView:
    """The federation from ``gateway``, whose router's ``account`` is None before it has one."""
    silos, hub = signed.of_role("silo"), signed.hub
    profiles = {profile.silo: profile for profile in opened.profiles}
    refused = {item.silo: item.detail or item.reason for item in opened.refused}
    accounts = {item.silo: item for item in account.silos} if account else {}
    return FederationView(
        federation=signed.roster.federation,
        fingerprint=signed.fingerprint,
        roster_version=signed.roster.version,
        gateway=NodeView(gateway.node, gateway.organisation),
        hub=HubView(hub.node, hub.organisation, connected),
        silos=tuple(
            SiloView(
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


def _shown(profile: Profile | None) -> ProfileView | None:
    if profile is None:
        return None
    return ProfileView(
        profile.version,
        profile.created,
        profile.expires,
        profile.size,
        profile.epsilon,
        profile.sealing,
    )


def _trust(account: SiloReport | None) -> TrustView | None:
    if account is None:
        return None
    return TrustView(
        account.verified, account.strikes, account.struck, account.asked, account.probe
    )


def _promise(account: RouterReport | None) -> PromiseView | None:
    if account is None:
        return None
    return PromiseView(
        account.questions,
        account.audits,
        account.needed,
        account.broken,
        account.promised["precise"],
        account.promised["diverse"],
        account.promised["fast"],
    )
