"""Work beside a question's way: nobody waits for it, and what fails in it fails nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from siloquy.errors import Busy

_log = logging.getLogger(__name__)


class Background:
    """Does what it is given in order, on one thread of its own that lives while there is work.

    Not on the event loop's threads: a few that learn for seconds would keep questions waiting for
    one. The thread ends with the process, so what must be kept is waited for with ``done``.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._waiting: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._working = False
        self._idle = threading.Event()
        self._idle.set()

    def soon(self, work: Callable[[], object]) -> bool:
        """Do ``work`` after what waits already; False, and it is dropped, where too much waits."""
        with self._lock:
            if len(self._waiting) >= self._most:
                return False
            self._waiting.append(work)
            self._idle.clear()
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            return True

    async def run(self, work: Callable[[], object]) -> None:
        """Do ``work`` in its turn and wait for it; raises its error, Busy where too much waits."""
        done = Future[None]()

        def told() -> None:
            try:
                work()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                done.set_exception(error)

        if not self.soon(told):
            raise Busy(f"too much waits for {self._name}", "try again in some seconds")
        await asyncio.wrap_future(done)

    def done(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to do; False when that takes longer."""
        return self._idle.wait(timeout_s)

    def _work(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever it is, a question must not fail
                # The kind alone: a message may quote what was asked.
                _log.warning("%s failed: %s", self._name, type(error).__name__)

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._working = False
            self._idle.set()
            return None
