"""Routes of what is kept: a person's own retention, judgements for evaluators, receipts checked."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from siloquy.codec import to_json
from siloquy.errors import SiloquyError, UsageError
from siloquy.gateway.api.bodies import refused
from siloquy.gateway.api.connection import Caller
from siloquy.gateway.api.conversations import Conversations
from siloquy.gateway.api.sign_in_bodies import (
    CheckReply,
    FeedbackList,
    PreferencesBody,
    PreferencesReply,
    ReceiptReply,
)
from siloquy.gateway.ask import Gateway
from siloquy.settings import ApiSettings
from siloquy.trust import receipt


def add_routes(
    service: FastAPI, gateway: Gateway, conversations: Conversations, settings: ApiSettings
) -> None:
    """``/v1/preferences``, ``/v1/feedback`` and ``/v1/receipts/check``."""
    most = settings.keep_days

    @service.get(
        "/v1/preferences",
        summary="How long the caller's conversations are kept",
        responses={200: {"model": PreferencesReply}, **refused()},
    )
    async def preferences(caller: Caller) -> Response:
        own = await conversations.aside(conversations.keep_days, caller.owner)
        return JSONResponse({"keep_days": own or most, "most_keep_days": most})

    @service.put(
        "/v1/preferences",
        summary="Have one's conversations kept for a shorter time",
        responses={200: {"model": PreferencesReply}, **refused()},
    )
    async def prefer(body: PreferencesBody, caller: Caller) -> Response:
        if most and body.keep_days > most:
            raise UsageError(
                f"keep_days is {body.keep_days}, this site keeps conversations {most} days at most",
                f"take 1 to {most}, or 0 for the site's own",
            )
        await conversations.aside(conversations.prefer, caller.owner, body.keep_days)
        return JSONResponse({"keep_days": body.keep_days or most, "most_keep_days": most})

    @service.get(
        "/v1/feedback",
        summary="What clinicians said of answers, without names",
        responses={200: {"model": FeedbackList}, **refused()},
    )
    async def feedback(caller: Caller) -> Response:
        judged = await conversations.aside(conversations.judged)
        allowed = settings.feedback_for_tuning
        return JSONResponse({"feedback": to_json(judged), "feedback_for_tuning": allowed})

    @service.post(
        "/v1/receipts/check",
        summary="Check a receipt, or an answer with one, as `siloquy verify` does",
        responses={200: {"model": ReceiptReply}, **refused()},
    )
    async def check(body: dict[str, Any], caller: Caller) -> Response:
        # This gateway has pinned its federation, so nobody need compare fingerprints.
        federation = str(to_json(gateway.status())["federation"])
        checks = await asyncio.to_thread(_checked, body, federation)
        holds = all(item.holds for item in checks)
        return JSONResponse(ReceiptReply(holds=holds, checks=checks).model_dump())


def _checked(data: dict[str, object], federation: str) -> list[CheckReply]:
    """What holds of it; a receipt that cannot be read is one check that does not."""
    try:
        found = receipt.check(data, federation)
    except UsageError:
        raise
    except SiloquyError as error:
        return [CheckReply(name="receipt", holds=False, detail=error.message)]
    return [CheckReply(name=c.name, holds=bool(c.holds), detail=c.detail) for c in found]
