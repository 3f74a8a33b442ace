"""What an answers run is asked to do, and what its tracks share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from siloquy.eval.answers import gold, report
from siloquy.eval.answers.gold import GoldCase
from siloquy.eval.answers.report import AnswerRow
from siloquy.eval.shelf import Shelf
from siloquy.serve import demo
from siloquy.settings import ModelSettings
from siloquy.types import Progress


@dataclass(frozen=True, slots=True)
class AnswersConfig:
    """One run; ``corpus`` None stands for the demo hospitals and their questions.

    sets   folder of all public sets, for the tracks that read several
    """

    corpus: Path | None
    out: Path
    tracks: tuple[str, ...]
    models: tuple[ModelSettings, ...] = (ModelSettings(),)
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    cache: Path | None = None
    sets: Path | None = None


@dataclass(frozen=True)
class AnswersContext:
    """A run under way.

    corpus   the run's own, or the hospitals written as one
    place    folder for what the run needs and does not keep
    file     where every row is put
    rows     what is in it
    open     what is open until the run is over
    """

    config: AnswersConfig
    corpus: Path
    place: Path
    file: TextIO
    told: Progress
    rows: list[AnswerRow] = field(default_factory=list)
    open: ExitStack = field(default_factory=ExitStack)

    @property
    def cache(self) -> Path:
        """Embedding cache, the machine's own where the run names none."""
        return self.config.cache or demo.cache_file()

    @cached_property
    def cases(self) -> Sequence[GoldCase]:
        """The corpus's questions, or a sample of them, with their gold."""
        return gold.load(self.corpus, self.config.split, self.config.limit, self.config.seed)

    @cached_property
    def documents(self) -> dict[str, str]:
        """Texts of all relevant documents."""
        return gold.texts(self.corpus, frozenset().union(*(c.relevant for c in self.cases)))

    @cached_property
    def shelf(self) -> Shelf:
        """One index over the corpus."""
        self.told("one index over the corpus")
        shelf = Shelf(self.corpus, self.place, self.cache)
        self.open.callback(shelf.close)
        return shelf

    def keep(self, rows: Iterable[AnswerRow]) -> dict[str, Any]:
        """Figures of one track's rows, each on disk before the next question is asked."""
        kept = []
        for row in rows:
            self.file.write(json.dumps(asdict(row)) + "\n")
            self.file.flush()
            kept.append(row)
        self.rows.extend(kept)
        return report.summarise(kept, self.config.seed)
