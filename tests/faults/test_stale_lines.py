"""A node that dials again while its old line hangs: it is served over the new one at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from siloquy.aggregator import service
from siloquy.settings import AskSettings
from tests.end_to_end.town import EAST, K, Town, eventually

pytestmark = pytest.mark.end_to_end


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """A town whose hub would wait for a minute for a peer to hang up."""
    monkeypatch.setattr(service, "CLOSE_TIMEOUT_S", 60.0)
    made = Town(tmp_path, AskSettings(k=K, deadline_s=10.0))
    await made.start()
    yield made
    await made.stop()


async def test_the_old_line_of_a_node_is_dropped_without_waiting_for_its_end(town: Town) -> None:
    await town.sites[EAST].stop()
    await eventually(lambda: EAST not in town.hub.lines)
    async with town.dialled(EAST):
        await eventually(lambda: EAST in town.hub.lines)
        old = town.hub.lines[EAST]
        old._socket.transport.pause_reading()
        async with town.dialled(EAST) as new:
            async with asyncio.timeout(20):
                assert await new.call("publish", b"", 15.0) == b""
            assert town.hub.lines[EAST] is not old
    await town.sites[EAST].start()
    await town.connected()
