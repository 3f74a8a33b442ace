"""How well the citation check tells changed sentences from faithful ones, class by class."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from siloquy.eval.answers import first_check
from siloquy.eval.answers.edits import SWAPS, SwapKind, paraphrase
from siloquy.eval.answers.stated import SourcedSentence, Writing, answered, stated
from siloquy.eval.shares import Share, share
from siloquy.generator.checking.cite import check_all
from siloquy.generator.checking.fit import Fault
from siloquy.text.words import words
from siloquy.types import Source

Split = Literal["train", "test"]
Change = SwapKind | Literal["", "words", "added"]

MOST_PER_CLASS = 120
MOST_UNTOUCHED = 600
MOST_REWORDED = 400
_NEAR = 50


@dataclass(frozen=True, slots=True)
class SwapCase:
    """A sentence, the sources that it cites, and what was changed in it.

    swapped   the class of the change, 'words' for a sentence of another document, 'added' for
              one with a part of another's at its end, or empty
    """

    id: str
    corpus: str
    writing: Writing
    swapped: Change
    sentence: str
    sources: tuple[Source, ...]

    @property
    def split(self) -> Split:
        """By document, so that no passage stands on both sides."""
        return "test" if zlib.crc32(self.id.encode()) % 2 else "train"


@dataclass(frozen=True, slots=True)
class SwapRow:
    """What the check, and the one that it replaces, said of a case; no text is kept."""

    id: str
    corpus: str
    writing: Writing
    swapped: Change
    split: Split
    fault: Fault
    support: float
    flagged: bool
    baseline: bool


@dataclass(frozen=True, slots=True)
class Rate:
    """Flagged sentences of a class: detections, or false flags of the 'untouched'.

    swapped   a class of change, 'swapped' for those of a patient's safety together, 'untouched'
    """

    check: Literal["check", "baseline"]
    writing: Writing | Literal["all"]
    swapped: str
    flagged: Share


@dataclass(frozen=True, slots=True)
class Result:
    """Every case and the rates of the test split."""

    rows: tuple[SwapRow, ...]
    summary: tuple[Rate, ...]


def run(hospitals: Path, data: Path | None, seed: int = 0) -> Result:
    """Check all cases; ``data`` is the folder of the data sets, None for the hospitals alone."""
    cases = build(hospitals, data, seed)
    rows = tuple(_row(case) for case in cases)
    return Result(rows, tuple(rates([row for row in rows if row.split == "test"])))


def _row(case: SwapCase) -> SwapRow:
    found = check_all(case.sentence, case.sources, [source.n for source in case.sources])
    return SwapRow(
        case.id,
        case.corpus,
        case.writing,
        case.swapped,
        case.split,
        found.fault,
        found.support,
        not found.cited,
        first_check.flags(case.sentence, case.sources),
    )


# -- rates ----------------------------------------------------------------------------------------


def rates(rows: Sequence[SwapRow]) -> Iterator[Rate]:
    """Detection by class and false flags, of all cases and by how they are written."""
    for writing in _WRITINGS:
        some = [row for row in rows if writing in ("all", row.writing)]
        for kind in ("untouched", "swapped", *SWAPS, "words", "added"):
            chosen = [row for row in some if _is(row, kind)]
            if chosen:
                yield Rate("check", writing, kind, share([row.flagged for row in chosen]))
                yield Rate("baseline", writing, kind, share([row.baseline for row in chosen]))


_WRITINGS: tuple[Writing | Literal["all"], ...] = ("all", "verbatim", "rule", "human")


def _is(row: SwapRow, kind: str) -> bool:
    if kind == "untouched":
        return not row.swapped
    return row.swapped in SWAPS if kind == "swapped" else row.swapped == kind


# -- cases ----------------------------------------------------------------------------------------


def build(hospitals: Path, data: Path | None, seed: int) -> list[SwapCase]:
    """All cases: the same for the same seed and files."""
    rng = np.random.default_rng(seed)
    verbatim = stated(hospitals, data, rng)
    human = answered(data) if data else []
    return [*_of_writing(verbatim, rng), *_of_writing(human, rng)]


def _of_writing(some: Sequence[SourcedSentence], rng: np.random.Generator) -> Iterator[SwapCase]:
    """Untouched, swapped and foreign sentences; rules reword those of documents alone."""
    if not some:
        return
    ruled = some[0].writing == "verbatim"
    untouched = [_case(item, item.sentence, "") for item in _spread(some, rng)]
    yield from untouched[:MOST_UNTOUCHED]
    if ruled:
        yield from islice(_reworded(untouched, rng), MOST_REWORDED)
    for kind in SWAPS:
        swapped = list(islice(_swapped(some, kind, rng), MOST_PER_CLASS))
        yield from swapped
        if ruled:
            yield from _reworded(swapped, rng)
    yield from _foreign(untouched, rng)


def _spread(some: Sequence[SourcedSentence], rng: np.random.Generator) -> Iterator[SourcedSentence]:
    """All in a random order in which each corpus has its turn."""
    corpora = sorted({item.corpus for item in some})
    turns = [[item for item in some if item.corpus == corpus] for corpus in corpora]
    shuffled = [[items[int(i)] for i in rng.permutation(len(items))] for items in turns]
    for i in range(max(len(items) for items in shuffled)):
        yield from (items[i] for items in shuffled if i < len(items))


def _case(item: SourcedSentence, sentence: str, swapped: Change) -> SwapCase:
    return SwapCase(item.id, item.corpus, item.writing, swapped, sentence, item.sources)


def _swapped(
    some: Sequence[SourcedSentence], kind: SwapKind, rng: np.random.Generator
) -> Iterator[SwapCase]:
    for i in rng.permutation(len(some)):
        item = some[int(i)]
        new = SWAPS[kind](item.sentence, " ".join(s.text for s in item.sources), rng)
        if new is not None and " ".join(new.split()) != item.sentence:
            yield _case(item, new, kind)


def _reworded(cases: Sequence[SwapCase], rng: np.random.Generator) -> Iterator[SwapCase]:
    for case in cases:
        new = paraphrase(case.sentence, rng)
        if new is not None:
            yield replace(case, sentence=new, writing="rule")


def _foreign(cases: Sequence[SwapCase], rng: np.random.Generator) -> Iterator[SwapCase]:
    """Sentences of another document, of fifty the one that shares most words; and a part of one."""
    for case in cases[:MOST_PER_CLASS]:
        picked = [cases[int(i)] for i in rng.integers(len(cases), size=_NEAR)]
        told = " ".join(source.text for source in case.sources)
        others = [o for o in picked if o.id != case.id and o.sentence not in told]
        if others:
            said = frozenset(words(told))
            near = max(others, key=lambda other: len(said & set(words(other.sentence))))
            added = f"{case.sentence.rstrip('. ')}, and {_last_part(others[0].sentence)}."
            yield replace(case, sentence=near.sentence, swapped="words")
            yield replace(case, sentence=added, swapped="added")


def _last_part(sentence: str) -> str:
    parts = re.split(r"[,;:()]|\band\b", sentence.rstrip(". "))
    return next((part.strip() for part in parts[::-1] if len(part.split()) >= 6), sentence)
