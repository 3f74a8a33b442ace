"""A silo's process: its node behind a line to the hub, and the profile that it keeps there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from siloquy import settings as settings_files
from siloquy.errors import StorageFailed
from siloquy.process import logged, now_ms, until_stopped
from siloquy.serve.nodes import link_of
from siloquy.serve.uplink import uplink
from siloquy.settings import ReleasePolicy, SiloSettings
from siloquy.silo_node.holdings import holdings
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.service import SiloNode
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text.embed import encoder_spec, model_folder
from siloquy.text.lexicon import Lexicon
from siloquy.trust import identity as identities
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster
from siloquy.watch.metrics import SiloMonitor
from siloquy.watch.observe import observed, silo_watch
from siloquy.wire.calls import Verb
from siloquy.wire.channel import Channel, Uplink, check_encoder

PROFILE_CHECK_S = 2.0
PROFILE_REFRESH_S = 6 * 3600.0
_log = logging.getLogger(__name__)


class Publisher:
    """Hands a silo's profile to the hub, and knows when the handed one is out of date."""

    def __init__(self, node: SiloNode, lexicon: Lexicon) -> None:
        self._node = node
        self._lexicon = lexicon
        self._version: tuple[int, ...] | None = None
        self._at = 0.0

    async def publish(self, call: Callable[[str, bytes, float], Awaitable[bytes]]) -> None:
        """Make the profile anew and hand it over; an empty one makes the hub forget."""
        version = await asyncio.to_thread(self._node.content_version)
        profile = await asyncio.to_thread(self._node.profile, self._lexicon)
        await call(Verb.PUBLISH, profile, 10.0)
        self._version, self._at = version, time.monotonic()

    async def stale(self) -> bool:
        """Whether documents, roster or a pause have changed since, or six hours have passed."""
        old = time.monotonic() - self._at > PROFILE_REFRESH_S
        return old or self._version != await asyncio.to_thread(self._node.content_version)

    async def keep(self, line: Uplink) -> None:
        """Hand it over again whenever it is out of date; never returns."""
        while True:
            await asyncio.sleep(PROFILE_CHECK_S)
            with logged("profile not published"):
                if line.connected and await self.stale():
                    await self.publish(line.call)


async def serve_silo(folder: Path) -> None:
    """Run a silo until it is told to stop."""
    identity, settings = identities.load(folder), settings_files.read(SiloSettings, folder)
    pinned = PinnedRoster(folder / ROSTER_FILE)
    spec = encoder_spec(settings.encoder)
    check_encoder(spec, pinned.current.roster.encoder)
    lexicon = lexicons.load(model_folder(settings.encoder))
    store = Store(folder / "silo.sqlite")
    store.bind(spec)
    link = link_of(settings, folder)
    monitor = SiloMonitor(identity.node)
    searcher: Searcher | None = None
    line: Uplink | None = None

    def connected() -> bool:
        return line is not None and line.connected

    watch = silo_watch(
        monitor,
        folder,
        connected=connected,
        indexed=lambda: searcher is not None,
        approved=lambda: _approves(settings.policy, pinned),
    )
    monitor.watch(connected, lambda: holdings(folder / "silo.sqlite", settings.policy, now_ms()))
    async with observed(identity, settings, watch):
        # A large index takes its time: meanwhile the silo is healthy, and not ready.
        kind, closed = settings.index.kind, settings.policy.sealed
        searcher = await asyncio.to_thread(Searcher, store, spec.dimension, kind, closed)
        profiler = Profiler(store, spec, settings.profile, now_ms)
        node = SiloNode(
            store, searcher, identity, pinned, settings.policy, now_ms, monitor, profiler
        )
        publisher = Publisher(node, lexicon)

        async def publish(channel: Channel) -> None:
            # A silo whose disk is full has no new profile, and a line to say so over.
            with logged("profile not published", StorageFailed):
                await publisher.publish(channel.call)

        line = uplink(link, identity, spec, pinned, node.handlers(), publish)
        _log.info("serving silo=%s passages=%d", identity.node, len(searcher))
        await until_stopped(line.run(), publisher.keep(line))


def _approves(policy: ReleasePolicy, pinned: PinnedRoster) -> bool:
    """Whether the policy names a gateway that the roster holds."""
    return any(card.node in policy.gateways for card in pinned.current.of_role("gateway"))
