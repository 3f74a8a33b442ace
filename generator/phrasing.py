"""What a question asks for. PLACEHOLDER: FOLLOW replaces this file."""

from __future__ import annotations

from collections.abc import Sequence

from siloquy.types import Turn


class RulePhrasing:
    """Nothing yet."""

    async def standalone(self, turns: Sequence[Turn], question: str) -> str:
        """The question."""
        return question

    async def parts(self, question: str) -> tuple[str, ...]:
        """The question."""
        return (question,)
