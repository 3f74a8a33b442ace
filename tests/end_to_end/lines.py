"""Raw lines of a live federation: what is sent on them, and how a refusal is named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings

from siloquy.codec import decode
from siloquy.errors import Incompatible, SiloquyError, from_code
from siloquy.types import (
    SearchReply,
    SignedMessage,
)
from siloquy.wire.channel import Channel
from tests.end_to_end.town import ANNEX, NORTH, SILOS, Town, eventually

live = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(live, max_examples=15)

REASONS = {"integrity", "refused", "incompatible"}
NAMED = {"usage", "denied", "budget", "incompatible", "integrity", "busy", "unreachable"}
REQUEST, REPLY, ERROR, CANCEL = range(4)


async def code_of(call: Awaitable[object]) -> str:
    """The code under which a call was refused; empty when it was not."""
    try:
        await call
    except SiloquyError as error:
        return error.code
    return ""


async def refused_or_raised(call: Awaitable[bytes]) -> None:
    """Raise what a silo's signed refusal says."""
    found = decode(SearchReply, decode(SignedMessage, await call).body)
    assert found.refusal is not None, "candidates for garbage"
    code = "denied" if found.refusal.reason == "refused" else found.refusal.reason
    raise from_code(code, found.refusal.detail)


@asynccontextmanager
async def honest_question_meanwhile(town: Town) -> AsyncIterator[None]:
    """An honest question goes on during the attack and is answered by every silo."""
    asking = asyncio.create_task(town.ask())
    yield
    answer = await asking
    assert answer.missing == ()
    assert {source.silo for source in answer.sources} == set(SILOS)


@dataclass(frozen=True, slots=True)
class Line:
    """One raw, proven connection: what is sent on it, and the far end that counts."""

    send: Callable[[bytes | str], Awaitable[None]]
    far: Channel
    call: Callable[[str, bytes, float], Awaitable[bytes]]

    async def stands(self) -> None:
        """A good call on the same line still works."""
        with pytest.raises(Incompatible, match="unknown method"):
            await self.call("no such thing", b"", 5.0)


@asynccontextmanager
async def line_to_hub(town: Town) -> AsyncIterator[Line]:
    """A rostered gateway that sends the hub what it likes."""
    async with town.dialled(ANNEX) as near:
        await eventually(lambda: ANNEX in town.hub.lines)
        yield Line(near._socket.send, town.hub.lines[ANNEX], near.call)


@asynccontextmanager
async def line_to_silo(town: Town) -> AsyncIterator[Line]:
    """The hub, which sends a silo what it likes."""
    near, far = town.hub.lines[NORTH], town.sites[NORTH].line._channel
    assert far is not None
    yield Line(near._socket.send, far, near.call)
