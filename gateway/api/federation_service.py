"""Routes of the federation: who belongs, and what this gateway knows of each."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from siloquy.codec import to_json
from siloquy.errors import MissingReason
from siloquy.gateway.api.asking import Asking
from siloquy.gateway.api.bodies import Reply, refused
from siloquy.gateway.api.connection import Caller
from siloquy.types import EncoderSpec, Role, Sealing


class GatewayReply(Reply):
    """Its node, and who runs it."""

    node: str
    organisation: str


class HubReply(GatewayReply):
    """The hub; ``connected``: whether this gateway's line to it stands."""

    connected: bool


class ProfileReply(Reply):
    """What a silo tells of its content; times in ms since 1970.

    ``epsilon`` is null where it is told without noise.
    """

    version: int
    created: int
    expires: int
    size: int
    epsilon: float | None
    sealing: Sealing


class TrustReply(Reply):
    """What a silo's word has been worth.

    Passages whose claims fitted; questions in which one did not and when that last was, in ms since
    1970; whether it may be asked; the share of its profile's probes that it met.
    """

    verified: int
    strikes: int
    struck: int | None
    asked: bool
    probe: float | None


class AbsenceReply(Reply):
    """A question in which a silo was missing: when, in ms since 1970, and why."""

    at: int
    reason: MissingReason
    detail: str


class AttendedReply(Reply):
    """Of the last hundred questions since the gateway started."""

    asked: int
    missing: int
    last: AbsenceReply | None


class SiloReply(GatewayReply):
    """One silo of the roster.

    ``refused`` says why its newest profile was not taken; ``trust`` and ``quota``, how many of the
    best it may win, are null before anything was checked.
    """

    fingerprint: str
    profile: ProfileReply | None
    refused: str
    trust: TrustReply | None
    quota: int | None
    missing_lately: AttendedReply


class PromiseReply(Reply):
    """What the router promises: the share of the best passages by intent, null for nothing yet."""

    questions: int
    audits: int
    needed: int
    broken: bool
    precise: float | None
    diverse: float | None
    fast: float | None


class FederationReply(Reply):
    """The federation as this gateway knows it."""

    federation: str
    fingerprint: str
    roster_version: int
    gateway: GatewayReply
    hub: HubReply
    silos: list[SiloReply]
    promise: PromiseReply | None
    warnings: list[str]


class MemberReply(Reply):
    """One member of the roster."""

    node: str
    role: Role
    organisation: str
    fingerprint: str


class RosterReply(Reply):
    """The roster: ``threshold`` of the founders, by fingerprint, sign every version."""

    federation: str
    fingerprint: str
    version: int
    created: int
    threshold: int
    founders: list[str]
    encoder: EncoderSpec
    members: list[MemberReply]


def add_routes(service: FastAPI, gateway: Asking) -> None:
    """``/v1/federation`` and ``/v1/roster``."""

    @service.get(
        "/v1/federation",
        summary="Who belongs, and what this gateway knows of each silo",
        responses={200: {"model": FederationReply}, **refused(503)},
    )
    async def federation(caller: Caller) -> JSONResponse:
        return JSONResponse(to_json(await gateway.federation()))

    @service.get(
        "/v1/roster",
        summary="The roster, as the founders signed it",
        responses={200: {"model": RosterReply}, **refused()},
    )
    async def roster(caller: Caller) -> JSONResponse:
        return JSONResponse(to_json(gateway.roster()))
