"""A gateway's process: its line to the hub, its page and API, and the work beside questions."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from siloquy import settings as settings_files
from siloquy.gateway.api import api_keys
from siloquy.gateway.api import conversations as kept
from siloquy.gateway.api.app import app, check_loopback
from siloquy.gateway.api.sign_in_service import SiteName
from siloquy.gateway.sign_in.authenticator import Authenticator
from siloquy.gateway.site import build_gateway, question_encoder
from siloquy.process import bound, logged, now_ms, until_stopped
from siloquy.serve.nodes import link_of
from siloquy.serve.uplink import uplink
from siloquy.settings import GatewaySettings
from siloquy.trust import identity as identities
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster
from siloquy.watch.capture import edge
from siloquy.watch.metrics import GatewayMonitor
from siloquy.watch.observe import gateway_watch, observed
from siloquy.web.server import http_server
from siloquy.wire.channel import Channel, check_encoder
from siloquy.wire.remote import RemoteHub

GATEWAY_REFRESH_S = 3.0
EXPIRE_EVERY_S = 3600.0
# At the end, how long to wait for lessons that the router has not written down yet.
LEARNT_TIMEOUT_S = 2.0
_log = logging.getLogger(__name__)


async def serve_gateway(folder: Path) -> None:
    """Run a gateway until it is told to stop."""
    identity, settings = identities.load(folder), settings_files.read(GatewaySettings, folder)
    check_loopback(settings.listen.host)
    pinned = PinnedRoster(folder / ROSTER_FILE)
    encoder = question_encoder(settings.encoder, folder)
    check_encoder(encoder.spec, pinned.current.roster.encoder)

    async def joined(channel: Channel) -> None:
        return None

    line = uplink(link_of(settings, folder), identity, encoder.spec, pinned, {}, joined)
    monitor = GatewayMonitor(identity.node, lambda: {m.node for m in pinned.current.roster.members})
    gateway = build_gateway(
        folder,
        identity,
        settings,
        pinned,
        RemoteHub(line.call),
        encoder,
        now_ms,
        lambda: line.connected,
        monitor,
    )
    warmed = asyncio.Event()

    async def keep_profiles() -> None:
        while True:
            if line.connected:
                with logged("profiles not read"):
                    await gateway.refresh()
            await asyncio.sleep(GATEWAY_REFRESH_S)

    async def warm() -> None:
        await gateway.warm()
        warmed.set()
        await asyncio.Event().wait()

    watch = gateway_watch(
        monitor,
        folder,
        warm=warmed.is_set,
        connected=lambda: line.connected,
        profiled=lambda: bool(gateway.status().profiled),
    )
    conversations = kept.Conversations(folder / kept.FILE_NAME, now_ms)
    keys = api_keys.Keys(folder / api_keys.FILE_NAME, now_ms)

    async def expire() -> None:
        while True:
            with logged("old conversations not deleted"):
                gone = await conversations.aside(conversations.expire, settings.api.keep_days)
                if gone:
                    _log.info("conversations deleted=%d", gone)
            await asyncio.sleep(EXPIRE_EVERY_S)

    authenticator = Authenticator(settings.sign_in, folder, settings.home, now_ms)
    if settings.sign_in.url and authenticator.open_to_all:
        _log.warning("sign_in.url is set and nobody has to sign in: set sign_in.kind")
    application = app(
        gateway,
        settings.api,
        conversations,
        keys,
        monitor,
        watch,
        authenticator,
        SiteName(identity.node, identity.card.organisation),
    )
    sockets = [bound(settings.listen)]
    async with observed(identity, settings, watch) as recorder:
        server = http_server(edge(application, recorder))
        _log.info(
            "serving gateway=%s http://%s:%d",
            identity.node,
            settings.listen.host,
            settings.listen.port,
        )
        try:
            await until_stopped(
                line.run(), keep_profiles(), warm(), expire(), server.serve(sockets)
            )
        finally:
            await gateway.learnt(LEARNT_TIMEOUT_S)
