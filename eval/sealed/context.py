"""What a run of the sealed benchmark is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from siloquy.errors import UsageError
from siloquy.serve import demo
from siloquy.types import Progress


@dataclass(frozen=True, slots=True)
class SealedConfig:
    """One benchmark run.

    corpus    a BEIR folder whose field ``source`` names the silo; without: scoring alone
    parts     rows of the table of tracks, those that need a corpus only with one; without: all
    n, d      rows and dimensions; each n is measured with each d
    silos     sizes of the federations that are started, the largest sources first
    queries   most questions of scoring's recall (None: 100) and of a federation (None: all)
    """

    out: Path
    corpus: Path | None = None
    parts: tuple[str, ...] = ()
    n: tuple[int, ...] = (1_000, 10_000, 100_000)
    d: tuple[int, ...] = (384, 768)
    silos: tuple[int, ...] = (1, 5, 18)
    queries: int | None = None
    split: str = "test"
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class SealedContext:
    """A run under way."""

    config: SealedConfig
    told: Progress

    @property
    def corpus(self) -> Path:
        """The BEIR folder; UsageError without one."""
        if self.config.corpus is None:
            raise UsageError("a corpus is needed", "name a BEIR folder with --corpus")
        return self.config.corpus

    @property
    def cache(self) -> Path:
        """Embedding cache, the machine's own where the run names none."""
        return self.config.cache or demo.cache_file()
