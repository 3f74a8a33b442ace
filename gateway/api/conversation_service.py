"""Routes of conversations: make, list, search, read, rename, take away, judge, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Path, Query
from fastapi.responses import JSONResponse, Response

from siloquy.codec import to_json
from siloquy.gateway.api.bodies import (
    ConversationList,
    FeedbackBody,
    RenameBody,
    TitleBody,
    WholeConversation,
    refused,
)
from siloquy.gateway.api.connection import Caller
from siloquy.gateway.api.conversations import (
    MOST_SOUGHT_CHARACTERS,
    MOST_TURNS,
    Conversation,
    Conversations,
)
from siloquy.gateway.api.exports import markdown


def add_routes(service: FastAPI, conversations: Conversations) -> None:
    """``/v1/conversations``."""

    @service.post(
        "/v1/conversations",
        summary="Begin a conversation",
        status_code=201,
        responses={201: {"model": Conversation}, **refused()},
    )
    async def create(body: TitleBody, caller: Caller) -> Response:
        made = await conversations.aside(conversations.create, caller.owner, body.title)
        return JSONResponse(to_json(made), status_code=201)

    @service.get(
        "/v1/conversations",
        summary="The caller's conversations, the newest first",
        responses={200: {"model": ConversationList}, **refused()},
    )
    async def listed(
        caller: Caller,
        q: Annotated[
            str,
            Query(
                max_length=MOST_SOUGHT_CHARACTERS,
                description="Words that title, a question or an answer must hold.",
            ),
        ] = "",
    ) -> Response:
        found = await conversations.aside(conversations.all, caller.owner, q.strip())
        return JSONResponse({"conversations": to_json(found)})

    @service.get(
        "/v1/conversations/{conversation}",
        summary="A conversation with its turns",
        responses={200: {"model": WholeConversation}, **refused(404)},
    )
    async def one(conversation: str, caller: Caller) -> Response:
        found = await conversations.aside(conversations.one, caller.owner, conversation)
        turns = await conversations.aside(conversations.turns, caller.owner, conversation)
        return JSONResponse({**to_json(found), "turns": to_json(turns)})

    @service.get(
        "/v1/conversations/{conversation}/export",
        summary="A conversation to take away, as Markdown",
        responses={
            200: {"content": {"text/markdown": {"schema": {"type": "string"}}}},
            **refused(404),
        },
        response_class=Response,
    )
    async def export(conversation: str, caller: Caller) -> Response:
        found = await conversations.aside(conversations.one, caller.owner, conversation)
        turns = await conversations.aside(conversations.turns, caller.owner, conversation)
        return Response(
            markdown(found, turns),
            media_type="text/markdown; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="conversation.md"'},
        )

    @service.put(
        "/v1/conversations/{conversation}/turns/{n}/feedback",
        summary="Say what an answer was worth; again to change it",
        status_code=204,
        responses=refused(404),
    )
    async def judge(
        conversation: str,
        n: Annotated[int, Path(ge=1, le=MOST_TURNS)],
        body: FeedbackBody,
        caller: Caller,
    ) -> Response:
        await conversations.aside(
            conversations.judge, caller.owner, conversation, n, body.judgement()
        )
        return Response(status_code=204)

    @service.patch(
        "/v1/conversations/{conversation}",
        summary="Rename a conversation",
        responses={200: {"model": Conversation}, **refused(404)},
    )
    async def rename(conversation: str, body: RenameBody, caller: Caller) -> Response:
        renamed = await conversations.aside(
            conversations.rename, caller.owner, conversation, body.title
        )
        return JSONResponse(to_json(renamed))

    @service.delete(
        "/v1/conversations/{conversation}",
        summary="Delete a conversation for good",
        status_code=204,
        responses=refused(404, 409),
    )
    async def delete(conversation: str, caller: Caller) -> Response:
        await conversations.aside(conversations.delete, caller.owner, conversation)
        return Response(status_code=204)
