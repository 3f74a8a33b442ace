"""Tracks of ``bench answers`` on sets of our own: citation check, conflicts, follow-ups."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from siloquy.eval import beir
from siloquy.eval.answers import alarms, disagreements, followups, swaps
from siloquy.eval.shares import Share
from siloquy.serve import demo
from siloquy.types import Progress

_TODAY = date(2026, 1, 1)
_LETTERS = "mediqa_sites"


@dataclass(frozen=True, slots=True)
class TrackInputs:
    """What the tracks read and where they write.

    sets   folder that holds the public sets; without it the hospitals and our own pairs alone
    """

    sets: Path | None
    out: Path
    seed: int
    cache: Path


def run(tracks: Sequence[str], wanted: TrackInputs, told: Progress) -> dict[str, Any]:
    """Figures of each wanted track."""
    known = {"citations": citations, "conflicts": conflicts, "followups": follow_ups}
    results: dict[str, Any] = {}
    for name in known:
        if name in tracks:
            told(name)
            results[name] = known[name](wanted)
    return results


def citations(wanted: TrackInputs) -> dict[str, Any]:
    """How often the check flags changed sentences, by class, and untouched ones."""
    found = swaps.run(demo.HOSPITALS, wanted.sets, wanted.seed)
    _write(wanted.out / "citations.jsonl", found.rows)
    return {
        f"{rate.check}: {rate.writing}: {rate.swapped}": _shown(rate.flagged)
        for rate in found.summary
    }


def conflicts(wanted: TrackInputs) -> dict[str, Any]:
    """How many labelled conflicts are shown, and how often one is shown on real questions."""
    scores = disagreements.score(disagreements.load())
    _write(wanted.out / "conflicts.jsonl", scores.pairs)
    results: dict[str, Any] = {
        "pairs": len(scores.pairs),
        **{
            name: _shown(getattr(scores, name))
            for name in ("recall", "precision", "alarms", "right_kind")
        },
    }
    letters = wanted.sets / _LETTERS if wanted.sets else None
    if letters is not None and letters.is_dir():
        asked = beir.load(letters, "test", None, wanted.seed).questions
        with tempfile.TemporaryDirectory(prefix="siloquy-alarms-") as place:
            found = alarms.alarms(letters, asked, Path(place), wanted.cache, _TODAY)
        results[f"questions_of_{_LETTERS}_with_a_conflict"] = _shown(found.questions)
    return results


def follow_ups(wanted: TrackInputs) -> dict[str, Any]:
    """Recall of rewritten follow-ups beside their standalone form, by group."""
    report = followups.run(wanted.sets, wanted.out, wanted.seed, cache=wanted.cache)
    return {
        "absent": list(report.absent),
        **{item.group: asdict(item) for item in report.summary},
    }


def _write(path: Path, rows: Sequence[swaps.SwapRow] | Sequence[disagreements.PairVerdict]) -> None:
    """The rows that the figures add up; they hold no passage and no public question."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def _shown(share: Share) -> dict[str, Any]:
    return {**asdict(share), "value": round(share.value, 4) if share.n else None}
