"""A hub's process: it listens for nodes, and hands on the roster that an operator adopts."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from siloquy import settings as settings_files
from siloquy.aggregator.registry import Registry
from siloquy.aggregator.service import HubNode, listen
from siloquy.errors import SettingsError
from siloquy.process import cannot_listen, logged, now_ms, until_stopped
from siloquy.settings import HubSettings
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster
from siloquy.watch.metrics import HubMonitor
from siloquy.watch.observe import hub_watch, observed

if TYPE_CHECKING:
    from websockets.asyncio.server import Server

_log = logging.getLogger(__name__)


async def serve_hub(folder: Path) -> None:
    """Run a hub until it is told to stop."""
    identity, settings = identities.load(folder), settings_files.read(HubSettings, folder)
    roster_path = folder / ROSTER_FILE
    if not roster_path.exists():
        raise SettingsError(
            f"{roster_path} is missing",
            "found the federation with `siloquy roster found`, sign it, then `siloquy hub adopt`",
        )
    pinned = PinnedRoster(roster_path)
    if pinned.current.hub != identity.card:
        raise SettingsError("the roster names another hub than this one")
    registry = Registry(folder / "hub.sqlite")
    registry.all_absent(now_ms())
    hub = HubNode(identity, pinned, registry, now_ms, HubMonitor(identity.node))
    server: Server | None = None

    async def follow_roster() -> None:
        seen = -1
        while True:
            await asyncio.sleep(0.5)
            written = _written_at(roster_path)
            if written == seen:
                continue
            with logged("roster not taken"):
                if pinned.follow(rosters.to_bytes(rosters.load(roster_path))):
                    _log.info("roster version=%d", pinned.current.roster.version)
                    await hub.distribute_roster()
                seen = written

    watch = hub_watch(
        hub.monitor,
        folder,
        adopted=lambda: pinned.current.hub == identity.card,
        listening=lambda: server is not None and server.is_serving(),
    )
    async with observed(identity, settings, watch):
        try:
            server = await listen(hub, settings, folder)
        except OSError as error:
            raise cannot_listen(settings.listen, error) from None
        _log.info("serving hub=%s url=%s", identity.node, settings.url)
        try:
            await until_stopped(follow_roster())
        finally:
            server.close()
            await server.wait_closed()


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
