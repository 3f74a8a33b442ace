"""Switching the watch on: settings decide, nothing is left on, nothing is on by default."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from asyncio import to_thread
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from siloquy import database
from siloquy.errors import SettingsError, Unreachable
from siloquy.ports import Message
from siloquy.serve.local import free_port
from siloquy.settings import (
    GatewaySettings,
    HubLink,
    HubSettings,
    Listen,
    MonitorSettings,
    SiloSettings,
)
from siloquy.watch import capture, tracing
from siloquy.watch.health import Watch
from siloquy.watch.metric_parts import text
from siloquy.watch.metrics import GatewayMonitor, HubMonitor, SiloMonitor
from siloquy.watch.observe import MonitoredModel, gateway_watch, hub_watch, observed, silo_watch
from siloquy.wire import channel as channels
from siloquy.wire import envelope
from tests.siloquy.federation import Federation
from tests.siloquy.otlp_collector import collecting
from tests.siloquy.scrape import Scraped

SILO = SiloSettings(hub=HubLink("wss://127.0.0.1:8443"))


def a_watch(folder: Path, *, ready: bool = True) -> Watch:
    database.connect(folder / "silo.sqlite", "").close()
    return silo_watch(
        SiloMonitor("north"),
        folder,
        connected=lambda: ready,
        indexed=lambda: True,
        approved=lambda: ready,
    )


def all_off() -> bool:
    """Whether neither capture nor traces are told anything."""
    return (channels.tap, envelope.tap, tracing._tracer) == (None, None, None)


def status(port: int, path: str) -> tuple[int, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# -- what each service needs ----------------------------------------------------------------------


async def test_a_silo_says_what_it_lacks_and_that_it_is_well(tmp_path: Path) -> None:
    watch = a_watch(tmp_path, ready=False)
    assert watch.readiness().lacking == ("hub line", "approved gateway")
    assert (await watch.health()).ready


async def test_a_silo_whose_store_is_gone_is_not_well(tmp_path: Path) -> None:
    watch = a_watch(tmp_path)
    (tmp_path / "silo.sqlite").unlink()
    assert (await watch.health()).lacking == ("database", "writable store")
    assert watch.readiness().ready


async def test_hub_and_gateway_say_what_they_lack(tmp_path: Path) -> None:
    hub = hub_watch(HubMonitor("hub"), tmp_path, adopted=lambda: False, listening=lambda: True)
    gateway = gateway_watch(
        GatewayMonitor("ward"),
        tmp_path,
        warm=lambda: True,
        connected=lambda: True,
        profiled=lambda: False,
    )
    assert hub.readiness().lacking == ("roster",)
    assert gateway.readiness().lacking == ("profile",)
    assert (await hub.health()).lacking == ("database",)
    for name in ("hub.sqlite", "heads.sqlite"):
        database.connect(tmp_path / name, "").close()
    assert (await hub.health()).ready
    assert (await gateway.health()).ready


# -- on and off -----------------------------------------------------------------------------------


async def test_by_default_nothing_is_on(tmp_path: Path, federation: Federation) -> None:
    async with observed(federation.north, SILO, a_watch(tmp_path)) as recorder:
        assert recorder is None
        assert all_off()


async def test_a_port_is_served_while_the_node_is(tmp_path: Path, federation: Federation) -> None:
    port = free_port()
    settings = replace(SILO, monitor=MonitorSettings(port))
    async with observed(federation.north, settings, a_watch(tmp_path)):
        assert await to_thread(status, port, "/readyz") == (200, {"ready": True})
        assert await to_thread(status, port, "/healthz") == (200, {"status": "ok"})
    with pytest.raises(OSError, match="refused"):
        await to_thread(status, port, "/readyz")


async def test_traces_and_capture_end_with_the_node(
    tmp_path: Path, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv(capture.ENVIRONMENT, str(tmp_path))
    with collecting() as collector:
        settings = replace(SILO, monitor=MonitorSettings(0, collector.address))
        async with observed(federation.north, settings, a_watch(tmp_path)) as recorder:
            assert recorder is not None
            assert None not in (channels.tap, envelope.tap, tracing._tracer)
        assert all_off()


@pytest.mark.parametrize(
    "settings",
    [
        SiloSettings(hub=HubLink("wss://hub.example.org:8443")),
        SiloSettings(hub=HubLink("wss://[")),
        SiloSettings(),
        GatewaySettings(hub=HubLink("wss://hub.example.org:8443")),
        HubSettings(listen=Listen("0.0.0.0")),  # noqa: S104 - it must refuse
    ],
    ids=["silo", "silo without a host", "silo without a hub", "gateway", "hub"],
)
async def test_capture_is_refused_where_traffic_leaves_the_machine(
    settings: SiloSettings | GatewaySettings | HubSettings,
    tmp_path: Path,
    federation: Federation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(capture.ENVIRONMENT, str(tmp_path / "new"))
    with pytest.raises(SettingsError):
        async with observed(federation.north, settings, a_watch(tmp_path)):
            pass
    assert not (tmp_path / "new").exists()


async def test_what_is_on_goes_off_when_the_rest_is_refused(
    tmp_path: Path, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(capture.ENVIRONMENT, str(tmp_path))
    settings = replace(SILO, monitor=MonitorSettings(0, "http://traces.example.org/v1/traces"))
    with pytest.raises(SettingsError, match=r"monitor\.traces"):
        async with observed(federation.north, settings, a_watch(tmp_path)):
            pass
    assert all_off()


# -- a model's failures ---------------------------------------------------------------------------


class Model:
    """Says one word, then fails."""

    name = "a model"

    def __init__(self) -> None:
        self.closed = False

    async def stream(self, messages: Sequence[Message], most_tokens: int) -> AsyncIterator[str]:
        try:
            yield "well"
            raise Unreachable("gone")
        finally:
            self.closed = True


def failures(monitor: GatewayMonitor) -> float:
    shown = Scraped(text(monitor.registry)[0])
    return shown("gateway_model_failures_total", code="unreachable")


async def test_a_model_s_failure_is_counted_and_goes_on_to_its_caller() -> None:
    monitor = GatewayMonitor("ward")
    watched = MonitoredModel(Model(), monitor)
    assert watched.name == "a model"
    pieces = watched.stream([Message("user", "?")], 10)
    assert await anext(pieces) == "well"
    with pytest.raises(Unreachable):
        await anext(pieces)
    assert failures(monitor) == 1


async def test_closing_early_ends_the_model_s_work_and_is_no_failure() -> None:
    monitor, model = GatewayMonitor("ward"), Model()
    pieces = MonitoredModel(model, monitor).stream([Message("user", "?")], 10)
    assert await anext(pieces) == "well"
    await pieces.aclose()
    assert model.closed
    assert failures(monitor) == 0
