"""What each service shows of itself: its health and readiness, put together, and switched on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from siloquy.errors import SiloquyError
from siloquy.ports import LanguageModel, Message
from siloquy.settings import GatewaySettings, HubSettings, SiloSettings
from siloquy.trust.identity import Identity
from siloquy.watch import capture, health, tracing
from siloquy.watch.capture import Recorder
from siloquy.watch.health import Probe, Watch
from siloquy.watch.metrics import GatewayMonitor, HubMonitor, SiloMonitor


def silo_watch(
    monitor: SiloMonitor,
    folder: Path,
    *,
    connected: Probe,
    indexed: Probe,
    approved: Probe,
) -> Watch:
    """A silo is ready when the hub can reach it, it can search, and somebody may ask it.

    approved   whether the policy names a gateway that the roster holds
    """
    database = folder / "silo.sqlite"
    parts = {"hub line": connected, "index": indexed, "approved gateway": approved}
    probes = {
        "database": health.readable(database),
        "writable store": health.writable(database),
        "disk space": health.roomy(folder),
    }
    return Watch(monitor.registry, parts, probes)


def hub_watch(monitor: HubMonitor, folder: Path, *, adopted: Probe, listening: Probe) -> Watch:
    """A hub is ready when it listens under a roster that names it."""
    probes = _durable(folder, "hub.sqlite")
    return Watch(monitor.registry, {"roster": adopted, "listener": listening}, probes)


def gateway_watch(
    monitor: GatewayMonitor,
    folder: Path,
    *,
    warm: Probe,
    connected: Probe,
    profiled: Probe,
) -> Watch:
    """A gateway is ready when its encoder is loaded and a silo can be asked."""
    parts = {"encoder": warm, "hub line": connected, "profile": profiled}
    return Watch(monitor.registry, parts, _durable(folder, "heads.sqlite"))


class MonitoredModel:
    """A language model whose failures are counted: ``ports.LanguageModel``."""

    def __init__(self, model: LanguageModel, monitor: GatewayMonitor) -> None:
        self._model = model
        self._monitor = monitor

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._model.name

    async def stream(self, messages: Sequence[Message], most_tokens: int) -> AsyncGenerator[str]:
        """Pieces of the reply as they come."""
        pieces = self._model.stream(messages, most_tokens)
        try:
            async for piece in pieces:
                yield piece
        except SiloquyError as error:
            self._monitor.model_failed(error.code)
            raise
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


def _durable(folder: Path, name: str) -> dict[str, Probe]:
    return {"database": health.readable(folder / name), "disk space": health.roomy(folder)}


@contextlib.asynccontextmanager
async def observed(
    identity: Identity, settings: SiloSettings | HubSettings | GatewaySettings, watch: Watch
) -> AsyncIterator[Recorder | None]:
    """Monitor, traces and capture port as settings and environment ask for them; off at the end."""
    node, role = identity.node, identity.card.role
    recorder = capture.start(node, role, _host(settings))
    try:
        if settings.monitor.traces:
            tracing.configure(node, role, settings.monitor.traces)
        server = await health.serve(watch, settings.monitor.port) if settings.monitor.port else None
        try:
            yield recorder
        finally:
            if server is not None:
                server.close()
    finally:
        tracing.stop()
        capture.stop(recorder)


def _host(settings: SiloSettings | HubSettings | GatewaySettings) -> str:
    """Where the node's channel begins or ends."""
    if isinstance(settings, HubSettings):
        return settings.listen.host
    try:
        return urlsplit(settings.hub.url).hostname or ""
    except ValueError:
        return ""
