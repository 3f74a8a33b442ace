"""The questions that a silo may still be asked passages for, in memory alone.

A busy silo holds thousands, each with some ninety offers: they are kept packed, 36 bytes an offer
instead of 300.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from siloquy.silo_node.guards import OfferedPassage, OpenQuestion
from siloquy.types import Handle, QueryId

# Scores are compared with the ticket's, so they are kept exactly.
_OFFER = np.dtype(
    [("handle", "V16"), ("number", "<u4"), ("dense", "<f8"), ("lexical", "<f8")], align=False
)


@dataclass(frozen=True, slots=True)
class _PackedQuestion:
    question: OpenQuestion
    offers: bytes


class OpenQuestions:
    """Questions in the order in which they came, each until it expires."""

    def __init__(self) -> None:
        self._packed: dict[QueryId, _PackedQuestion] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def keep(self, question: OpenQuestion) -> None:
        """Add ``question``, or put it in the place of its older self."""
        offered = {} if question.placed is not None else question.offered
        rows = [(h, o.number, o.dense, o.lexical) for h, o in offered.items()]
        offers = np.array(rows, dtype=_OFFER).tobytes()
        bare = replace(question, offered={})
        self._packed[question.query_id] = _PackedQuestion(bare, offers)

    def get(self, query_id: QueryId) -> OpenQuestion | None:
        """The question as it was kept."""
        packed = self._packed.get(query_id)
        if packed is None:
            return None
        offers = np.frombuffer(packed.offers, dtype=_OFFER)
        columns = (offers[name].tolist() for name in ("handle", "number", "dense", "lexical"))
        offered = {Handle(h): OfferedPassage(*rest) for h, *rest in zip(*columns, strict=True)}
        return replace(packed.question, offered=offered)

    def forget_expired(self, now: int) -> None:
        """Drop what can no longer be released; all live about equally long, so the oldest first."""
        while self._packed:
            oldest = next(iter(self._packed))
            if self._packed[oldest].question.expires >= now:
                return
            del self._packed[oldest]
