"""What the reader must weigh. PLACEHOLDER: CITE replaces this file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from siloquy.types import Conflict, Source


def conflicts(question: str, sources: Sequence[Source], today: date) -> tuple[Conflict, ...]:
    """Nothing yet."""
    return ()
