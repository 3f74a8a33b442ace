"""A question that is given up at the gateway stops at the silos, over the real channel."""

from __future__ import annotations

import asyncio

import pytest

from siloquy.types import SignedMessage
from tests.end_to_end.town import NORTH, SOUTH, Town, eventually


class Stuck:
    """A silo's search that takes its time, and notes when it is told to stop."""

    def __init__(self) -> None:
        self.entered = 0
        self.told_to_stop = 0

    async def search(self, envelope: bytes) -> SignedMessage:
        """Never an answer."""
        self.entered += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.told_to_stop += 1
            raise
        raise AssertionError


async def test_giving_a_question_up_stops_the_work_at_every_asked_silo(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = {silo: Stuck() for silo in (NORTH, SOUTH)}
    for silo, search in stuck.items():
        monkeypatch.setattr(town.sites[silo].node, "search", search.search)
    question = asyncio.create_task(town.ask())
    await eventually(lambda: all(silo.entered for silo in stuck.values()))
    assert not any(silo.told_to_stop for silo in stuck.values())
    question.cancel()
    stopped = "the silos go on working"
    # Before the search's own deadline of 1.35 s would have stopped them.
    await eventually(lambda: all(s.told_to_stop for s in stuck.values()), stopped, 1.0)
    with pytest.raises(asyncio.CancelledError):
        await question
    monkeypatch.undo()
    await town.ask_as_usual()
