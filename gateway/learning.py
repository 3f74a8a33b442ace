"""What the router learns of questions, beside their way: nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from siloquy.gateway.background import Background
from siloquy.ports import Router
from siloquy.types import NodeId, SearchFeedback

# Questions that may wait to be learnt from; while so many wait, further ones are not learnt from.
MOST_UNLEARNT = 256


class Learning:
    """The router's lessons, each in its turn."""

    def __init__(self, router: Router) -> None:
        self._router = router
        # Two threads: a false claim must count at once, not after seconds of refitting.
        self._learning = Background("learning", MOST_UNLEARNT)
        self._checking = Background("checking", MOST_UNLEARNT)

    def heard(self, feedback: SearchFeedback) -> None:
        """Let the router learn what came of a search."""
        self._learning.soon(lambda: self._router.heard(feedback))

    async def taught(self, feedback: SearchFeedback) -> None:
        """The same, and wait until it has: whoever asks for audits can wait for what they teach."""
        await self._learning.run(lambda: self._router.heard(feedback))

    def checked(self, verified: Mapping[NodeId, int], false: Mapping[NodeId, int]) -> None:
        """Let the router learn whose claims fitted."""
        if verified or false:
            self._checking.soon(lambda: self._router.checked(verified, false))

    async def done(self, timeout_s: float | None = None) -> bool:
        """Wait until what was heard and checked so far has been learnt; False: it takes longer."""
        waiting = (self._checking, self._learning)
        done = (asyncio.to_thread(work.done, timeout_s) for work in waiting)
        return all(await asyncio.gather(*done))
