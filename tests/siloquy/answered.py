"""An answer as a gateway gives it, made by hand."""

from __future__ import annotations

from typing import Any

from siloquy.types import (
    Answer,
    CitedSpan,
    Conflict,
    DocumentId,
    Missing,
    NodeId,
    Plan,
    Round,
    Sentence,
    Source,
)

NORTH, SOUTH = NodeId("north"), NodeId("south")
QUESTION = "Which dose of ceftriaxone?"
TEXT = "Give ceftriaxone 2 g."


def answered(**other: Any) -> Answer:
    """An answer without its receipt; anything in it may be another."""
    source = Source(1, NORTH, DocumentId("a.md"), "Title", TEXT, 0, len(TEXT), 0.9)
    parts: dict[str, Any] = {
        "question": QUESTION,
        "answer": f"{TEXT} [1]",
        "abstained": False,
        "sentences": (Sentence(TEXT, (1,), 1.0, (CitedSpan(1, 0, len(TEXT)),)),),
        "sources": (source,),
        "plan": Plan("open", (NORTH, SOUTH), (), {}),
        "missing": (Missing(SOUTH, "timeout", "late"),),
        "withheld": {"north": 2},
        "released": {"north": 1},
        "flagged": {},
        "rounds": (Round("question", QUESTION, "71" * 16, (NORTH, SOUTH), {"north": 1}),),
        "conflicts": (Conflict("dose", (CitedSpan(1, 0, 4),), "2 g in [1]"),),
        "dropped": 1,
        "notes": ("1 sentence of the draft was dropped",),
        "mode": "open",
        "model": "a-model",
        "extractive": False,
        "timings_ms": {"total": 1.0},
        "receipt": {},
    }
    return Answer(**(parts | other))
