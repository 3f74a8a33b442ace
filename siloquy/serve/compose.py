"""Puts the processes together: what a silo, a hub and a gateway are made of.

Each lives in one folder: identity, ``siloquy.toml``, ``roster.json``, its database.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from siloquy.trust import identity as identities
from siloquy.text import lexicon as lexicons
from siloquy.trust import roster as rosters
from siloquy import settings as settings_files
from siloquy.aggregator.service import (
    Collect,
    Gather,
    HubNode,
    Profiles,
    listen,
)
from siloquy.watch.capture import edge
from siloquy.wire.channel import Channel, Handler, Joined, Uplink, Welcome, check_encoder, dial
from siloquy.codec import decode, encode
from siloquy.text.embed import encoder_spec, model_folder
from siloquy.errors import SettingsError, SiloquyError, StorageFailed
from siloquy.trust.identity import Identity
from siloquy.text.lexicon import Lexicon
from siloquy.watch.monitor import GatewayMonitor, HubMonitor, SiloMonitor
from siloquy.watch.observe import gateway_watch, hub_watch, observed, silo_watch
from siloquy.trust.roster import Pinned
from siloquy.aggregator.registry import Registry
from siloquy.settings import (
    GatewaySettings,
    HubLink,
    HubSettings,
    Listen,
    ReleasePolicy,
    SiloSettings,
)
from siloquy.types import EncoderSpec, MergeReply, NodeId, Signed

if TYPE_CHECKING:
    import uvicorn
    from websockets.asyncio.server import Server

    from siloquy.silo_node.service import SiloNode
from siloquy.serve.nodes import ROSTER_FILE, link_of
from siloquy.gateway.site import build_gateway, question_encoder

PROFILE_CHECK_S = 2.0
PROFILE_REFRESH_S = 6 * 3600.0
GATEWAY_REFRESH_S = 3.0
SLOW_CALLER_MS = 30_000
EXPIRE_EVERY_S = 3600.0
# What the router has heard and not written down yet may hold up the end so long.
LEARNT_TIMEOUT_S = 2.0
# A thread that is back from the disk or the encoder waits so long for a busy event loop, not 5 ms.
THREAD_SWITCH_S = 0.0005
LOCK_FILE = "serving.lock"
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.02
EXIT_WITH_PARENT = "SILOQUY_EXIT_WITH_PARENT"
_log = logging.getLogger(__name__)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


# -- serving --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemoteHub:
    """The hub over the channel: ``ports.Hub``."""

    uplink: Uplink

    async def gather(self, envelope: bytes, timeout_s: float) -> MergeReply:
        """Phase 1."""
        reply = await self.uplink.call("gather", encode(Gather(envelope)), timeout_s)
        return decode(MergeReply, reply)

    async def collect(self, silo: str, envelope: bytes, timeout_s: float) -> bytes:
        """Phase 2 of one silo."""
        body = encode(Collect(NodeId(silo), envelope))
        return await self.uplink.call("collect", body, timeout_s)

    async def profiles(self) -> tuple[bytes, ...]:
        """Sealed profiles that this gateway may open."""
        return decode(Profiles, await self.uplink.call("profiles", b"", 10.0)).envelopes

    async def sealing_key(self, timeout_s: float) -> Signed:
        """The hub's key of this session."""
        return decode(Signed, await self.uplink.call("sealing_key", b"", timeout_s))


def uplink(
    link: HubLink,
    identity: Identity,
    spec: EncoderSpec,
    pinned: Pinned,
    handlers: dict[str, Handler],
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

    async def connect_once() -> Joined:
        return await dial(link, identity, spec, pinned.current)

    return Uplink(connect_once, {**handlers, "roster": roster}, on_join)


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
        await call("publish", profile, 10.0)
        self._version, self._at = version, time.monotonic()

    async def stale(self) -> bool:
        """Whether documents, roster or a pause have changed since, or six hours have passed."""
        old = time.monotonic() - self._at > PROFILE_REFRESH_S
        return old or self._version != await asyncio.to_thread(self._node.content_version)

    async def keep(self, line: Uplink) -> None:
        """Hand it over again whenever it is out of date; never returns."""
        while True:
            await asyncio.sleep(PROFILE_CHECK_S)
            with _logged("profile not published"):
                if line.connected and await self.stale():
                    await self.publish(line.call)


async def serve_silo(folder: Path) -> None:
    """Run a silo until it is told to stop."""
    from siloquy.silo_node.holdings import holdings
    from siloquy.silo_node.profiler import Profiler
    from siloquy.silo_node.search import Searcher
    from siloquy.silo_node.service import SiloNode
    from siloquy.silo_node.store import Store

    identity, settings = identities.load(folder), settings_files.read(SiloSettings, folder)
    pinned = Pinned(folder / ROSTER_FILE)
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
            with _logged("profile not published", StorageFailed):
                await publisher.publish(channel.call)

        line = uplink(link, identity, spec, pinned, dict(node.handlers()), publish)
        _log.info("serving silo=%s passages=%d", identity.node, len(searcher))
        await until_stopped(line.run(), publisher.keep(line))


def _approves(policy: ReleasePolicy, pinned: Pinned) -> bool:
    """Whether the policy names a gateway that the roster holds."""
    return any(card.node in policy.gateways for card in pinned.current.of_role("gateway"))


async def serve_hub(folder: Path) -> None:
    """Run a hub until it is told to stop."""
    identity, settings = identities.load(folder), settings_files.read(HubSettings, folder)
    roster_path = folder / ROSTER_FILE
    if not roster_path.exists():
        raise SettingsError(
            f"{roster_path} is missing",
            "found the federation with `siloquy roster found`, sign it, then `siloquy hub adopt`",
        )
    pinned = Pinned(roster_path)
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
            with _logged("roster not taken"):
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
            raise _cannot_listen(settings.listen, error) from None
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


async def serve_gateway(folder: Path) -> None:
    """Run a gateway until it is told to stop."""
    from siloquy.gateway.api import api_keys
    from siloquy.gateway.api import conversations as kept
    from siloquy.gateway.api.service import app, check_loopback
    from siloquy.gateway.api.sign_in_service import Site
    from siloquy.gateway.sign_in.authenticator import Authenticator

    identity, settings = identities.load(folder), settings_files.read(GatewaySettings, folder)
    check_loopback(settings.listen.host)
    pinned = Pinned(folder / ROSTER_FILE)
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
        RemoteHub(line),
        encoder,
        now_ms,
        lambda: line.connected,
        monitor,
    )
    warmed = asyncio.Event()

    async def keep_profiles() -> None:
        while True:
            if line.connected:
                with _logged("profiles not read"):
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
            with _logged("old conversations not deleted"):
                gone = await conversations.aside(conversations.expire, settings.api.keep_days)
                if gone:
                    _log.info("conversations deleted=%d", gone)
            await asyncio.sleep(EXPIRE_EVERY_S)

    authenticator = Authenticator(settings.sign_in, folder, home_of(settings), now_ms)
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
        Site(identity.node, identity.card.organisation),
    )
    sockets = [bound(settings.listen)]
    async with observed(identity, settings, watch) as recorder:
        server = http_server(edge(application, recorder))
        _log.info("serving gateway=%s http://%s:%d", identity.node, *_address(settings))
        try:
            await until_stopped(
                line.run(), keep_profiles(), warm(), expire(), server.serve(sockets)
            )
        finally:
            await gateway.learnt(LEARNT_TIMEOUT_S)


def http_server(application: Any) -> uvicorn.Server:
    """A server of an ASGI application on sockets that are bound; it leaves signals alone."""
    import uvicorn

    config = uvicorn.Config(application, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server


def bound(listen: Listen) -> socket.socket:
    """A TCP socket at an address; SettingsError when it is taken."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's delay on: 40 ms for every reply of two packets.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a caller that takes nothing is let go
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SLOW_CALLER_MS)
    try:
        taken.bind((listen.host, listen.port))
    except OSError as error:
        taken.close()
        raise _cannot_listen(listen, error) from None
    return taken


def _cannot_listen(listen: Listen, error: OSError) -> SettingsError:
    return SettingsError(
        f"cannot listen on {listen.host}:{listen.port}: {error.strerror or 'refused'}",
        "choose another port, or stop what uses it",
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """SettingsError when another process serves the node in ``folder``."""
    if not folder.is_dir():
        raise SettingsError(f"{folder} holds no node", "make one with `init` first")
    with (folder / LOCK_FILE).open("a") as lock:
        if not _locked(lock):
            raise SettingsError(
                f"another process serves {folder}", "stop it first; one process serves a node"
            )
        # A node must be able to start on a disk that takes nothing.
        with contextlib.suppress(OSError):
            os.utime(lock.fileno())
        yield


def _locked(lock: IO[str]) -> bool:
    """Whether the lock is this process's now; who only looks holds it for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def serving_since(folder: Path) -> int | None:
    """When the process that serves the node began, Unix nanoseconds; None when none does."""
    path = folder / LOCK_FILE
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        pass
    return None


def home_of(settings: GatewaySettings) -> str:
    """How people reach a gateway's page."""
    host = f"[{settings.listen.host}]" if ":" in settings.listen.host else settings.listen.host
    return settings.sign_in.url or f"http://{host}:{settings.listen.port}"


def _address(settings: GatewaySettings) -> tuple[str, int]:
    return settings.listen.host, settings.listen.port


@contextlib.contextmanager
def _logged(what: str, kind: type[SiloquyError] = SiloquyError) -> Any:
    try:
        yield
    except kind as error:
        _log.warning("%s: %s", what, error.message)
    except sqlite3.Error as error:
        # A damaged file; the type alone, since SQLite may quote what it holds.
        _log.error("%s: %s", what, type(error).__name__)


async def until_stopped(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until SIGINT, SIGTERM or, for a child that should not outlive it, its parent's end.

    The first that fails ends all and its error is raised.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(item) for item in (*work, _parent_gone())]
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)


async def _parent_gone() -> None:
    # Named by the parent itself: it may be gone before a child that starts slowly looks.
    parent = os.environ.get(EXIT_WITH_PARENT)
    while parent is None or os.getppid() == int(parent):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
