"""A node's line to its hub: dialled again whenever it breaks, following the roster."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from siloquy.errors import SiloquyError
from siloquy.process import now_ms
from siloquy.settings import HubLink
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import EncoderSpec, NodeId
from siloquy.wire.calls import Verb
from siloquy.wire.channel import Channel, Handler, HubConnection, Uplink, Welcome, dial

_log = logging.getLogger(__name__)


def uplink(
    link: HubLink,
    identity: Identity,
    spec: EncoderSpec,
    pinned: PinnedRoster,
    handlers: Mapping[str, Handler],
    joined: Callable[[Channel], Awaitable[None]],
) -> Uplink:
    """A node's line to its hub, following the roster."""

    async def roster(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        try:
            pinned.follow(body)
        except SiloquyError as error:
            _log.warning("roster refused: %s", error.message)
            raise
        return b""

    async def on_join(channel: Channel, welcome: Welcome) -> None:
        pinned.follow(welcome.roster)
        skew_s = abs(welcome.now - now_ms()) / 1000
        if skew_s > 10:
            _log.warning("the hub's clock differs by %.0f s", skew_s)
        await joined(channel)

    async def connect_once() -> HubConnection:
        return await dial(link, identity, spec, pinned.current)

    return Uplink(connect_once, {**handlers, Verb.ROSTER: roster}, on_join)
