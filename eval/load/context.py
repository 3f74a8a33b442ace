"""What a load run is asked to do, and what its parts share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from siloquy.eval.beir import EvalQuestion
from siloquy.eval.load.asking import K, LoadAsker, LoadRows, federation
from siloquy.eval.load.client import HttpCall, LoadPlan
from siloquy.eval.load.encoding import encode
from siloquy.serve import demo
from siloquy.serve.demo import Demo
from siloquy.types import Progress

WARM_QUESTIONS = 50


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """One benchmark run.

    corpus      a BEIR folder whose field ``source`` names the silo; None for the demo's hospitals
    parts       rows of the table of tracks; without: all
    questions   of the latency part
    seconds     of each step of throughput, and of the overload
    soak        questions of the soak
    """

    out: Path
    corpus: Path | None = None
    parts: tuple[str, ...] = ()
    questions: int = 200
    seconds: float = 10.0
    soak: int = 10_000
    split: str = "test"
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class LoadContext:
    """A run under way.

    questions   of the corpus or the demo's hospitals, in their order
    measured    what all parts so far came to
    open        the federation that several parts share, once it runs; closing it stops it
    """

    config: LoadConfig
    questions: Sequence[EvalQuestion]
    told: Progress
    measured: LoadRows = field(default_factory=LoadRows)
    open: ExitStack = field(default_factory=ExitStack)

    @property
    def cache(self) -> Path:
        """Embedding cache, the machine's own where the run names none."""
        return self.config.cache or demo.cache_file()

    @contextmanager
    def federation(self, **gateway: Any) -> Iterator[Demo]:
        """Real processes over the run's corpus, with these settings of the gateway."""
        config = self.config
        with federation(config.corpus, config.cache, self.told, **gateway) as running:
            yield running

    def asker(self, running: Demo, calls: Sequence[HttpCall]) -> LoadAsker:
        """Who makes these calls to a federation, into the run's rows."""
        return LoadAsker(running, calls, self.measured, self.told)

    @cached_property
    def shared(self) -> LoadAsker:
        """Asks a warm federation whose gateway has every query vector ready."""
        self.told("encoding the questions")
        for question, ms in zip(self.questions, encode(self.cache, self.questions), strict=False):
            self.measured.time("encoder", question.id, ms)
        running = self.open.enter_context(self.federation(question_cache=self.cache))
        asker = self.asker(running, [_retrieval(question) for question in self.questions])
        asker.ask("warm", LoadPlan(4, count=WARM_QUESTIONS))
        return asker


def _retrieval(question: EvalQuestion) -> HttpCall:
    body = {"question": question.text, "route": "all", "unit": "document", "k": K}
    return HttpCall(question.id, "/v1/retrieve", json.dumps({**body, "rescore": False}).encode())
