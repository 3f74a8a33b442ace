"""Processes that may die, forked from one that has the code loaded: a start takes no time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HOME = Path(__file__).resolve().parents[2]
KILLED = -9


@dataclass(slots=True)
class Deed:
    """A running deed; ``end`` waits for it."""

    output: IO[str]
    handle: int

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        os.close(self.handle)

    def end(self) -> int:
        """The exit code; -9 when it was killed."""
        return int(self.output.readline())


class Stage:
    """Runs deeds by name, one after another, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, deed: str, *arguments: object, crash_at: str = "") -> Deed:
        """A deed of ``tests.faults.deeds`` in a new process, told to die at ``crash_at``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"deed": deed, "arguments": [str(a) for a in arguments], "crash_at": crash_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        # The child is told to go on only now: its number cannot be another's yet.
        handle = os.pidfd_open(int(self._process.stdout.readline()))
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Deed(self._process.stdout, handle)

    def run(self, deed: str, *arguments: object, crash_at: str = "") -> int:
        """The exit code of a deed."""
        started = self.start(deed, *arguments, crash_at=crash_at)
        os.close(started.handle)
        return started.end()


@contextmanager
def opened() -> Iterator[Stage]:
    """A stage; its process is gone afterwards."""
    command = [sys.executable, "-m", "tests.faults.deeds"]
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HOME,
        env=environment,
    ) as process:
        try:
            yield Stage(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)
