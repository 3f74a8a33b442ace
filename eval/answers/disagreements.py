"""How well conflicts are told from statements that only look alike: labelled pairs, and alarms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from siloquy.eval.shares import Share, share
from siloquy.generator.checking.conflict import conflicts
from siloquy.types import ConflictKind, DocumentId, NodeId, Source

PAIRS = Path(__file__).resolve().parent / "conflict_pairs.jsonl"
_TODAY = date(2026, 1, 1)
_DIFFERENCES = ("dose", "disagreement")


@dataclass(frozen=True, slots=True)
class PassagePair:
    """Two passages of two hospitals under one question, and whether they disagree.

    kind   'dose' or 'disagreement' of a true conflict, else empty
    why    what makes it one, or what makes it look like one
    seen   whether the rules were set looking at it; the others were written afterwards
    """

    id: str
    seen: bool
    question: str
    sources: tuple[Source, Source]
    conflict: bool
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What was found in a pair; empty when nothing."""

    id: str
    seen: bool
    conflict: bool
    kind: str
    found: ConflictKind | Literal[""]
    why: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares with their 95 % intervals.

    recall       true conflicts that are shown
    precision    true ones among those that are shown
    alarms       statements that only look alike and are shown all the same
    right_kind   true ones that are shown under their kind
    """

    pairs: tuple[PairVerdict, ...]
    recall: Share
    precision: Share
    alarms: Share
    right_kind: Share


def load() -> list[PassagePair]:
    """The labelled pairs; written for this, no hospital's."""
    records = map(json.loads, PAIRS.read_text(encoding="utf-8").splitlines())
    return [
        PassagePair(
            record["id"],
            record["set"] == "tuned",
            record["question"],
            (_source(1, record["a"]), _source(2, record["b"])),
            record["conflict"],
            record["kind"],
            record["why"],
        )
        for record in records
    ]


def _source(n: int, record: dict[str, str]) -> Source:
    name = f"hospital-{n}"
    end = len(record["text"])
    return Source(n, NodeId(name), DocumentId(name), record["title"], record["text"], 0, end, 1.0)


def score(pairs: Sequence[PassagePair]) -> Scores:
    """What is found in the pairs beside what is there."""
    judged = tuple(_judged(pair) for pair in pairs)
    true = [pair for pair in judged if pair.conflict]
    shown = [pair for pair in judged if pair.found]
    return Scores(
        judged,
        share([bool(pair.found) for pair in true]),
        share([pair.conflict for pair in shown]),
        share([bool(pair.found) for pair in judged if not pair.conflict]),
        share([pair.found == pair.kind for pair in true if pair.found]),
    )


def _judged(pair: PassagePair) -> PairVerdict:
    found = conflicts(pair.question, pair.sources, _TODAY)
    kinds = [conflict.kind for conflict in found if conflict.kind in _DIFFERENCES]
    return PairVerdict(
        pair.id, pair.seen, pair.conflict, pair.kind, kinds[0] if kinds else "", pair.why
    )
