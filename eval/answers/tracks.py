"""The tracks of ``siloquy bench answers``: on a corpus's own questions, and on sets of our own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from siloquy.eval import beir, output
from siloquy.eval.answers import alarms, asking, disagreements, followups, swaps
from siloquy.eval.answers.context import AnswersContext
from siloquy.eval.shares import Share
from siloquy.eval.track import Track
from siloquy.serve import demo

_TODAY = date(2026, 1, 1)
_LETTERS = "mediqa_sites"


def gold(context: AnswersContext) -> dict[str, Any]:
    """What answers cite and say, nothing withheld."""
    return context.keep(asking.all_kept(context))


def withheld(context: AnswersContext) -> dict[str, Any]:
    """How often nothing is answered, the gold of one half of the questions taken out."""
    return context.keep(asking.half_withheld(context))


def sweep(context: AnswersContext) -> dict[str, Any]:
    """The same of every question in one index."""
    return context.keep(asking.with_and_without(context))


def citations(context: AnswersContext) -> dict[str, Any]:
    """How often the check flags changed sentences, by class, and untouched ones."""
    context.told("citations")
    found = swaps.run(demo.HOSPITALS, context.config.sets, context.config.seed)
    output.write_records(context.config.out / "citations.jsonl", found.rows)
    rates = {
        f"{rate.check}: {rate.writing}: {rate.swapped}": _shown(rate.flagged)
        for rate in found.summary
    }
    return {"citations": rates}


def conflicts(context: AnswersContext) -> dict[str, Any]:
    """How many labelled conflicts are shown, and how often one is shown on real questions."""
    context.told("conflicts")
    config = context.config
    scores = disagreements.score(disagreements.load())
    output.write_records(config.out / "conflicts.jsonl", scores.pairs)
    results: dict[str, Any] = {
        "pairs": len(scores.pairs),
        **{
            name: _shown(getattr(scores, name))
            for name in ("recall", "precision", "alarms", "right_kind")
        },
    }
    letters = config.sets / _LETTERS if config.sets else None
    if letters is not None and letters.is_dir():
        asked = beir.load(letters, "test", None, config.seed).questions
        with tempfile.TemporaryDirectory(prefix="siloquy-alarms-") as place:
            found = alarms.alarms(letters, asked, Path(place), context.cache, _TODAY)
        results[f"questions_of_{_LETTERS}_with_a_conflict"] = _shown(found.questions)
    return {"conflicts": results}


def follow_ups(context: AnswersContext) -> dict[str, Any]:
    """Recall of rewritten follow-ups beside their standalone form, by group."""
    context.told("followups")
    config = context.config
    found = followups.run(config.sets, config.out, config.seed, cache=context.cache)
    groups = {item.group: asdict(item) for item in found.summary}
    return {"followups": {"absent": list(found.absent), **groups}}


def _shown(share: Share) -> dict[str, Any]:
    return {**asdict(share), "value": round(share.value, 4) if share.n else None}


TRACKS: Mapping[str, Track[AnswersContext]] = {
    "gold": Track("what answers cite and say against gold", gold),
    "withheld": Track("abstention where half of the gold documents are taken out", withheld),
    "sweep": Track("abstention with and without the gold, in one index", sweep),
    "citations": Track("how often the citation check flags changed sentences", citations),
    "conflicts": Track("how many labelled conflicts are shown, and how many false ones", conflicts),
    "followups": Track("recall of rewritten follow-ups beside their standalone form", follow_ups),
}
