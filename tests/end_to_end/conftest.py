"""The attacker's town, fresh for each test, and one federation of real processes for them all."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from siloquy import database
from siloquy.aggregator import registry
from siloquy.router import profile
from siloquy.serve import demo
from siloquy.settings import AskSettings, ReleasePolicy
from siloquy.silo_node import store
from siloquy.trust import heads
from siloquy.wire import channel
from tests.end_to_end.processes import Federation
from tests.end_to_end.town import K, Town


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    """Three silos, two gateways and a hub that does what a test tells it."""
    monkeypatch.setattr(channel, "BACKOFF_S", (0.02, 0.1))
    # No power fails during a test, and a shared disk's fsync costs more than all the rest.
    lax = functools.partial(database.connect, durable=False)
    for module in (store, registry, profile, heads):
        monkeypatch.setattr(module, "connect", lax)
    made = Town(tmp_path, AskSettings(k=K, deadline_s=3.0))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(scope="session")
def fed(tmp_path_factory: pytest.TempPathFactory, embeddings: Path) -> Iterator[Federation]:
    """The five synthetic hospitals, a hub and a gateway; only this loads the encoder."""
    folder = tmp_path_factory.mktemp("federation")
    ask = AskSettings(deadline_s=6.0)
    # All tests together ask for more than a day's budget of a silo.
    policy = ReleasePolicy(passages_per_day=100_000, sealed_per_day=100_000)
    with demo.federation(
        None,
        folder / "nodes",
        lambda text: None,
        cache=embeddings,
        ask=ask,
        policy=policy,
    ) as made:
        federation = Federation(made, embeddings)
        yield federation
        federation.http.close()
        pids = [process.pid for process in made.processes.running.values()]
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    mine = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert [line for line in mine if line[1:3] == ["-m", "siloquy"]] == []
