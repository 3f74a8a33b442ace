"""What a retrieval run is asked to do, and the questions that it asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from siloquy.eval.beir import JudgedQuestions
from siloquy.types import Progress

K = 10


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    """One benchmark run."""

    corpus: Path
    out: Path
    route: Literal["auto", "all"] = "all"
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    cache: Path | None = None
    rescore: bool = False
    mode: Literal["open", "sealed"] = "open"


@dataclass(frozen=True, slots=True)
class RetrievalContext:
    """A run under way."""

    config: RetrievalConfig
    judged: JudgedQuestions
    told: Progress
