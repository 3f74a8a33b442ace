"""Routes of accounts, for who manages them, and of the log of sign-ins."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response

from siloquy.codec import to_json
from siloquy.errors import UsageError
from siloquy.gateway.api.api_keys import Keys
from siloquy.gateway.api.bodies import refused
from siloquy.gateway.api.connection import Caller
from siloquy.gateway.api.conversations import Conversations
from siloquy.gateway.api.sign_in_bodies import (
    AccountChange,
    AccountList,
    AccountReply,
    InvitationReply,
    InviteBody,
    SignInList,
)
from siloquy.gateway.sign_in.authenticator import Authenticator

SHOWN_AT_ONCE = 100


def add_routes(
    service: FastAPI, authenticator: Authenticator, keys: Keys, conversations: Conversations
) -> None:
    """``/v1/accounts`` and ``/v1/sign-ins``."""
    aside = authenticator.aside

    @service.get(
        "/v1/accounts",
        summary="Every account of this gateway",
        responses={200: {"model": AccountList}, **refused(404)},
    )
    async def listed(caller: Caller) -> Response:
        found = await aside(authenticator.local.accounts.all)
        return JSONResponse({"accounts": [item.plain for item in found]})

    @service.post(
        "/v1/accounts",
        summary="A one-time link for a new account, or for a new password of an old one",
        status_code=201,
        responses={201: {"model": InvitationReply}, **refused(404)},
    )
    async def invite(body: InviteBody, caller: Caller) -> Response:
        accounts = authenticator.local.accounts
        check_no_key(keys, body.name)
        made = await aside(accounts.invite, body.name, body.roles)
        return JSONResponse(to_json(made), status_code=201)

    @service.patch(
        "/v1/accounts/{name}",
        summary="Other roles, disabled or enabled; the person's sessions end",
        responses={200: {"model": AccountReply}, **refused(404)},
    )
    async def change(name: str, body: AccountChange, caller: Caller) -> Response:
        accounts = authenticator.local.accounts
        changed = await aside(accounts.change, name, body.roles, body.disabled)
        return JSONResponse(changed.plain)

    @service.delete(
        "/v1/accounts/{name}",
        summary="Remove an account, with its conversations",
        status_code=204,
        responses=refused(404),
    )
    async def remove(name: str, caller: Caller) -> Response:
        removed = await aside(authenticator.local.accounts.remove, name)
        await conversations.aside(conversations.forget, removed.requester.owner)
        return Response(status_code=204)

    _add_log(service, authenticator)


def _add_log(service: FastAPI, authenticator: Authenticator) -> None:
    @service.get(
        "/v1/sign-ins",
        summary="Who signed in, and who was refused; the newest first",
        responses={200: {"model": SignInList}, **refused(404)},
    )
    async def sign_ins(
        caller: Caller,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = SHOWN_AT_ONCE,
    ) -> Response:
        found = await authenticator.aside(authenticator.log.last, limit, before)
        rows = list(found)
        following = rows[-1].n if len(rows) == limit and rows[-1].n > 1 else None
        return JSONResponse({"sign_ins": to_json(rows), "next": following})


def check_no_key(keys: Keys, name: str) -> None:
    """UsageError when an API key has that name: the silos' ledgers could not tell them apart."""
    if keys.holds(name):
        raise UsageError("an API key has that name", "take another name, or revoke the key")
