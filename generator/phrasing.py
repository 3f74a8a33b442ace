"""Questions that stand alone: a follow-up written out, a compound question taken apart.

The rules need no model. They would rather leave a question as it is than rewrite one that was
complete: a wrong rewrite asks the hospitals something that nobody asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from siloquy.errors import SiloquyError
from siloquy.generator.compound import split
from siloquy.generator.follow_up import rewrite
from siloquy.ports import LanguageModel, Message
from siloquy.text import STOP_WORDS, clean, words
from siloquy.types import Turn

MOST_CHARACTERS = 4_000
MOST_TURNS = 6
MOST_PARTS = 4


class RulePhrasing:
    """Phrasing by rules alone; it gives a text back whatever it is given."""

    async def standalone(self, turns: Sequence[Turn], question: str) -> str:
        """``question`` with what it leaves out taken from the turns; as it is when complete."""
        asked = _bounded(question)
        recent = [Turn(_bounded(t.question), _bounded(t.answer)) for t in turns[-MOST_TURNS:]]
        return _bounded(rewrite([turn for turn in recent if turn.question], asked))

    async def parts(self, question: str) -> tuple[str, ...]:
        """At most four questions, each standing alone; the question itself when it asks one."""
        asked = _bounded(question)
        turns: list[Turn] = []
        said = ""
        for piece in split(asked, MOST_PARTS):
            if "?" in piece:
                turns.append(Turn(rewrite(turns, piece), said))
            else:
                said = f"{said} {piece}".strip()
        found = tuple(dict.fromkeys(f"{turn.answer} {turn.question}".strip() for turn in turns))
        return found if len(found) > 1 else (asked,)


def _bounded(text: str) -> str:
    return " ".join(clean(text).split())[:MOST_CHARACTERS].rstrip()
