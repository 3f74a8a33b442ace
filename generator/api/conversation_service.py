"""Routes of conversations: make, list, read, rename, delete."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from siloquy.codec import to_json
from siloquy.generator.api.bodies import (
    ConversationList,
    ConversationReply,
    RenameBody,
    TitleBody,
    WholeConversation,
    refused,
)
from siloquy.generator.api.connection import Caller
from siloquy.generator.api.conversations import Conversations


def add_routes(service: FastAPI, conversations: Conversations) -> None:
    """``/v1/conversations``."""

    @service.post(
        "/v1/conversations",
        summary="Begin a conversation",
        status_code=201,
        responses={201: {"model": ConversationReply}, **refused()},
    )
    async def create(body: TitleBody, caller: Caller) -> Response:
        made = await conversations.aside(conversations.create, caller, body.title)
        return JSONResponse(to_json(made), status_code=201)

    @service.get(
        "/v1/conversations",
        summary="The caller's conversations, the newest first",
        responses={200: {"model": ConversationList}, **refused()},
    )
    async def listed(caller: Caller) -> Response:
        found = await conversations.aside(conversations.all, caller)
        return JSONResponse({"conversations": to_json(found)})

    @service.get(
        "/v1/conversations/{conversation}",
        summary="A conversation with its turns",
        responses={200: {"model": WholeConversation}, **refused(404)},
    )
    async def one(conversation: str, caller: Caller) -> Response:
        found = await conversations.aside(conversations.one, caller, conversation)
        turns = await conversations.aside(conversations.turns, caller, conversation)
        return JSONResponse({**to_json(found), "turns": to_json(turns)})

    @service.patch(
        "/v1/conversations/{conversation}",
        summary="Rename a conversation",
        responses={200: {"model": ConversationReply}, **refused(404)},
    )
    async def rename(conversation: str, body: RenameBody, caller: Caller) -> Response:
        renamed = await conversations.aside(conversations.rename, caller, conversation, body.title)
        return JSONResponse(to_json(renamed))

    @service.delete(
        "/v1/conversations/{conversation}",
        summary="Delete a conversation for good",
        status_code=204,
        responses=refused(404, 409),
    )
    async def delete(conversation: str, caller: Caller) -> Response:
        await conversations.aside(conversations.delete, caller, conversation)
        return Response(status_code=204)
