"""A real federation behind faulty lines; its silos, hub and gateway may be killed."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from siloquy import settings as settings_files
from siloquy.serve import demo, local
from siloquy.serve.local import GATEWAY, HUB, Layout, Processes
from siloquy.settings import AskSettings, ReleasePolicy, SiloSettings
from siloquy.silo_node.store import Store
from siloquy.trust import ledger
from siloquy.types import NodeId
from tests.end_to_end.processes import VANCOMYCIN
from tests.faults.proxy import FAIR, Proxy, Weather, proxies

REJOIN_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Siege:
    """The running federation; each silo reaches the hub through its own proxy."""

    layout: Layout
    processes: Processes
    lines: dict[NodeId, Proxy]
    deadline_s: float

    def kill(self, node: NodeId) -> None:
        """SIGKILL, as when the power fails."""
        process = self.processes.running[node]
        process.kill()
        process.wait(10)

    def signal(self, node: NodeId, number: int) -> None:
        """A signal to a node's process."""
        os.kill(self.processes.running[node].pid, number)

    def ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A request to the gateway, over a connection of its own."""
        with httpx.Client(trust_env=False, timeout=self.deadline_s + 60) as client:
            return client.post(self.layout.gateway_url + path, json=body)

    def missing(self) -> set[str]:
        """Silos that do not answer now; all when nobody can be asked."""
        body = {"question": VANCOMYCIN, "route": "all", "k": 1, "rescore": False}
        try:
            reply = self.ask("/v1/retrieve", body)
        except httpx.HTTPError:
            return set(self.layout.silos)
        if reply.status_code != 200:
            return set(self.layout.silos)
        return {item["silo"] for item in reply.json()["missing"]}

    def rejoined(self) -> float:
        """Seconds until every silo answers."""
        start = time.monotonic()
        while gone := self.missing():
            assert time.monotonic() - start < REJOIN_LIMIT_S, f"still missing: {sorted(gone)}"
            time.sleep(0.05)
        return time.monotonic() - start

    def joined(self, silo: NodeId, after: float) -> float:
        """Seconds from the time ``after`` until the hub had a new line to the silo, by its log.

        0 when it has needed none: its line has lived through the fault.
        """
        log = (self.layout.folder / "log" / f"{HUB}.log").read_text()
        for stamp in re.findall(rf"^(\S+ \S+) .*joined node={silo}$", log, re.MULTILINE):
            at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
            if at > after:
                return round(at - after, 2)
        return 0.0

    def books(self, silo: NodeId) -> tuple[int, int]:
        """Passages that have left a silo by its ledger, whose chain holds, and by its budget."""
        with closing(Store(self.layout.of(silo) / "silo.sqlite")) as store:
            ledger.check(store.connection)
            entered = sum(len(entry.passages) for entry in ledger.entries(store.connection))
            (spent,) = store.connection.execute("SELECT sum(passages) FROM spent").fetchone()
        return entered, int(spent or 0)

    def heal(self) -> None:
        """Fair weather, everybody runs."""
        for silo, line in self.lines.items():
            line.cut_after(-1)
            line.set(FAIR)
            if self.processes.running[silo].poll() is None:
                self.signal(silo, signal.SIGCONT)
            else:
                self.processes.start(silo)


Fault = Callable[[Siege, NodeId], None]


def kill(siege: Siege, silo: NodeId) -> None:
    """The process is gone until it is started again."""
    siege.kill(silo)


def stop(siege: Siege, silo: NodeId) -> None:
    """The process stands still."""
    siege.signal(silo, signal.SIGSTOP)


def mute(siege: Siege, silo: NodeId) -> None:
    """The network swallows everything and ends nothing."""
    siege.lines[silo].set(Weather(mute=True))


def half_open(siege: Siege, silo: NodeId) -> None:
    """The hub's end is gone, the silo hears nothing, new lines are mute."""
    siege.lines[silo].set(Weather(mute=True))
    siege.lines[silo].half_open()


def refuse(siege: Siege, silo: NodeId) -> None:
    """The line is reset and cannot be dialled again."""
    siege.lines[silo].set(Weather(refuses=True))
    siege.lines[silo].reset()


def cut(siege: Siege, silo: NodeId) -> None:
    """The line breaks in the middle of a frame, time and again."""
    siege.lines[silo].cut_after(3000)


def slow(siege: Siege, silo: NodeId) -> None:
    """Far away."""
    siege.lines[silo].set(Weather(latency_s=0.4))


def drip(siege: Siege, silo: NodeId) -> None:
    """A few bytes at a time."""
    siege.lines[silo].set(Weather(bytes_per_s=3000))


DOWN: tuple[Fault, ...] = (kill, stop, mute, half_open, refuse)
"""While these last, the silo cannot take part in a question that is asked after them."""
WEAK: tuple[Fault, ...] = (cut, slow, drip)


@contextmanager
def besieged(folder: Path, deadline_s: float, cache: Path | None = None) -> Iterator[Siege]:
    """The demo's hospitals with a proxy in front of the hub for each of them."""
    found = demo.sources(None)
    layout = local.create(
        folder,
        [item.silo for item in found],
        cache=cache or folder / "embeddings.sqlite",
        policy=ReleasePolicy(passages_per_day=1_000_000),
        ask=AskSettings(deadline_s=deadline_s),
    )
    local.ingest_all(layout, found, lambda silo, report: None)
    with proxies([layout.hub_port] * len(found)) as lines:
        for item, line in zip(found, lines, strict=True):
            _send_through(layout, item.silo, line)
        with local.running(layout) as processes:
            by_silo = {item.silo: line for item, line in zip(found, lines, strict=True)}
            siege = Siege(layout, processes, by_silo, deadline_s)
            try:
                yield siege
            finally:
                for silo in layout.silos:
                    if processes.running[silo].poll() is None:
                        siege.signal(silo, signal.SIGCONT)


def _send_through(layout: Layout, silo: NodeId, line: Proxy) -> None:
    settings = settings_files.read(SiloSettings, layout.of(silo), {})
    hub = replace(settings.hub, url=f"wss://127.0.0.1:{line.port}")
    settings_files.write(replace(settings, hub=hub), layout.of(silo))


__all__ = ["DOWN", "GATEWAY", "WEAK", "Fault", "Siege", "besieged"]
