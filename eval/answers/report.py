"""From rows to results: everything that ``results.json`` says follows from ``per_query.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from siloquy.eval import metrics
from siloquy.eval.answers import abstention
from siloquy.eval.answers.abstention import Curve
from siloquy.eval.answers.gold import AnswerCounts
from siloquy.eval.shares import share

EVERYTHING = "all"


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What came of one question on one track; no text of it or of a passage.

    condition        kept, withheld or partly, on the tracks that withhold
    held_out         whether the question had no part in setting the threshold
    evidence         decision value of one retrieval
    found_relevant   a judged document is among the passages
    near_duplicate   a passage repeats a relevant document word for word, mostly
    states_gold      a passage states the gold answer, whatever document it is of
    """

    track: str
    backend: str
    id: str
    group: str
    condition: str = ""
    held_out: bool = True
    abstained: bool = False
    evidence: float | None = None
    found_relevant: bool = False
    near_duplicate: bool = False
    states_gold: bool = False
    measured: AnswerCounts | None = None
    released: int = 0
    rounds: int = 0
    total_ms: float = 0.0
    error: str = ""


def load(path: Path) -> list[AnswerRow]:
    """The rows of a run."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        AnswerRow(**{**r, "measured": AnswerCounts(**r["measured"]) if r["measured"] else None})
        for r in records
    ]


def summarise(rows: Sequence[AnswerRow], seed: int) -> dict[str, Any]:
    """Figures by track, back end and group of questions, with 95 % intervals."""
    tracks = {row.track for row in rows}
    results: dict[str, Any] = {}
    if "gold" in tracks:
        results["gold"] = _by_backend(rows, "gold", lambda some: answers(some, seed))
    for track in sorted(tracks & {"withheld", "sweep"}):
        results[track] = _by_backend(rows, track, abstentions)
    return results


def _by_backend(
    rows: Sequence[AnswerRow], track: str, figures: Callable[[Sequence[AnswerRow]], dict[str, Any]]
) -> dict[str, Any]:
    mine = [row for row in rows if row.track == track]
    return {
        backend: {
            name: figures(some)
            for name, some in groups([row for row in mine if row.backend == backend]).items()
        }
        for backend in dict.fromkeys(row.backend for row in mine)
    }


def groups(rows: Sequence[AnswerRow]) -> dict[str, list[AnswerRow]]:
    """All rows, then those of each group, where there are several."""
    names = sorted({row.group for row in rows})
    parts = {name: [row for row in rows if row.group == name] for name in names}
    return {EVERYTHING: list(rows), **parts} if len(names) > 1 else {EVERYTHING: list(rows)}


# -- answers --------------------------------------------------------------------------------------


def answers(rows: Sequence[AnswerRow], seed: int) -> dict[str, Any]:
    """What the answers of questions whose gold is there cite and say."""
    told = [row.measured for row in rows if row.measured is not None]
    given = [item for item in told if item.sentences]

    def of(hits: str, totals: str, some: Sequence[AnswerCounts] = tuple(told)) -> Any:
        pairs = [(getattr(item, hits), getattr(item, totals)) for item in some]
        return asdict(metrics.ratio(pairs, seed)) if any(total for _, total in pairs) else None

    return {
        "questions": len(rows),
        "failed": sum(bool(row.error) for row in rows),
        "answered": asdict(share([bool(item.sentences) for item in told])),
        "support_precision_gold_cited": of("gold_sentences", "sentences"),
        "support_precision_gold_says_it": of("said", "sentences"),
        "support_precision_citation_check": of("carried", "sentences"),
        "citation_accuracy": of("cited_gold", "citations"),
        "citations_that_resolve": of("resolved", "citations"),
        "support_recall_exact_items": of("found", "items"),
        "support_recall_exact_items_when_answered": of("found", "items", given),
        "support_recall_ideal_words": of("ideal_found", "ideal_words"),
        "support_recall_ideal_words_when_answered": of("ideal_found", "ideal_words", given),
        "exact_hit": asdict(share([item.found > 0 for item in told if item.items])),
        "ms": metrics.quantiles([row.total_ms for row in rows if not row.error] or [0.0]),
        **_verdicts(rows),
    }


def _verdicts(rows: Sequence[AnswerRow]) -> dict[str, Any]:
    """Yes, no and maybe where the gold has one: right, wrong, not stated, no answer."""
    asked = [
        row.measured for row in rows if row.measured is not None and row.group.startswith("yesno")
    ]
    stated = [item for item in asked if item.stated]
    return {
        "verdict_right": asdict(share([item.right for item in asked])),
        "verdict_right_of_stated": asdict(share([item.right for item in stated])),
        "verdict_not_stated": sum(bool(item.sentences) and not item.stated for item in asked),
        "verdict_no_answer": sum(not item.sentences for item in asked),
    }


# -- abstaining -----------------------------------------------------------------------------------


def abstentions(rows: Sequence[AnswerRow]) -> dict[str, Any]:
    """How often nothing is answered, with and without the gold, and what the threshold could do."""
    kept, gone = _of(rows, "kept"), _of(rows, "withheld")
    nothing_left = [row for row in gone if not (row.states_gold or row.near_duplicate)]
    results = {
        "kept": len(kept),
        "withheld": len(gone),
        "partly": len(_of(rows, "partly")),
        "failed": sum(bool(row.error) for row in rows),
        "withheld_judged_document_found": sum(row.found_relevant for row in gone),
        "withheld_near_duplicate_found": asdict(share([row.near_duplicate for row in gone])),
        "withheld_gold_still_stated": asdict(share([row.states_gold for row in gone])),
        "decided_on_withheld": asdict(share([row.abstained for row in gone])),
        "decided_on_withheld_nothing_left": asdict(share([row.abstained for row in nothing_left])),
        "false_abstentions": asdict(share([row.abstained for row in kept])),
    }
    return {**results, **{name: at(item) for name, item in _curves(rows).items()}}


def at(item: Curve) -> dict[str, Any]:
    """A curve's area, and what its points of interest do."""
    return {
        "area": item.area,
        "at_threshold_in_use": asdict(item.at_use),
        "at_a_tenth_false": asdict(item.at_most),
    }


def _of(rows: Sequence[AnswerRow], condition: str) -> list[AnswerRow]:
    return [row for row in rows if row.condition == condition and not row.error]


def _curves(rows: Sequence[AnswerRow]) -> dict[str, Curve]:
    """By which questions count: all; held-out ones; those of which nothing is left."""
    held_out = [row for row in rows if row.held_out]
    left = [
        row
        for row in held_out
        if row.condition == "kept" or not (row.states_gold or row.near_duplicate)
    ]
    made = {"curve_all": rows, "curve_held_out": held_out, "curve_held_out_nothing_left": left}
    found = {name: _curve(some) for name, some in made.items()}
    return {name: item for name, item in found.items() if item is not None}


def _curve(rows: Sequence[AnswerRow]) -> Curve | None:
    kept = [row.evidence for row in _of(rows, "kept") if row.evidence is not None]
    gone = [row.evidence for row in _of(rows, "withheld") if row.evidence is not None]
    return abstention.curve(kept, gone) if kept and gone else None


def curves(rows: Sequence[AnswerRow]) -> Mapping[str, Curve]:
    """One curve a track and group, over held-out questions; a back end changes no evidence."""
    found: dict[str, Curve] = {}
    for track in ("withheld", "sweep"):
        mine = [row for row in rows if row.track == track and row.held_out]
        first = [row for row in mine if row.backend == mine[0].backend]
        for name, some in groups(first).items():
            item = _curve(some)
            if item is not None:
                found[f"{track}: {name}"] = item
    return found


def draw_curves(rows: Sequence[AnswerRow], out: Path) -> None:
    """``curve.csv``, ``.png`` and ``.svg`` in ``out``, where a track has curves."""
    found = curves(rows)
    if found:
        abstention.write_csv(found, out / "curve.csv")
        abstention.draw(found, out / "curve.png")
        abstention.draw(found, out / "curve.svg")
