"""Who asks a running federation, and notes what every process took for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from siloquy.eval.load.client import HttpCall, LoadPlan, Volley, fire
from siloquy.serve import demo
from siloquy.serve.demo import Demo
from siloquy.settings import AskSettings, ReleasePolicy
from siloquy.types import Progress

K = 10


@dataclass(frozen=True, slots=True)
class LoadRows:
    """Rows of single requests and of whole volleys, as they are written."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: str, at_once: int, volley: Volley, **costs: Any) -> None:
        """Take in one volley."""
        number = len(self.runs)
        self.rows.extend({"part": part, "run": number, **asdict(s)} for s in volley.shots)
        own = {
            "began": volley.began,
            "wall_s": volley.wall_s,
            "client_cpu_s": volley.client_cpu_s,
        }
        self.runs.append({"part": part, "at_once": at_once, **own, **costs})

    def time(self, part: str, question: str, ms: float) -> None:
        """Take in one time of something that is not the federation."""
        self.rows.append({"part": part, "id": question, "wall_ms": round(ms, 3)})


@contextmanager
def federation(
    corpus: Path | None, cache: Path | None, told: Progress, **gateway: Any
) -> Iterator[Demo]:
    """Real processes; ``corpus`` None for the demo's hospitals, ``gateway`` for its settings."""
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=K)
    with demo.federation(
        corpus, None, told, cache=cache, policy=policy, ask=AskSettings(), **gateway
    ) as running:
        yield running


class LoadAsker:
    """Asks one running federation and notes what every process took for it."""

    def __init__(
        self, running: Demo, calls: Sequence[HttpCall], measured: LoadRows, told: Progress
    ) -> None:
        self._port = running.layout.gateway_port
        self._calls = calls
        self._measured = measured
        self._told = told
        self._processes = {
            str(node): psutil.Process(process.pid)
            for node, process in running.processes.running.items()
        }

    def ask(self, part: str, plan: LoadPlan) -> None:
        """One volley."""
        self._told(f"{part}: {plan.at_once} at once")
        before = self._cpu_s()
        volley = fire(self._port, self._calls, plan)
        spent = {node: round(s - before[node], 3) for node, s in self._cpu_s().items()}
        memory = {
            node: round(process.memory_info().rss / 2**20, 2)
            for node, process in self._processes.items()
        }
        self._measured.add(part, plan.at_once, volley, cpu_s=spent, rss_mb=memory)

    def _cpu_s(self) -> dict[str, float]:
        times = {node: process.cpu_times() for node, process in self._processes.items()}
        return {node: used.user + used.system for node, used in times.items()}
