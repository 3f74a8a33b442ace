"""A headless Chromium that a test drives over its own debugging protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_TIMEOUT_S = 30.0


def chromium() -> str:
    """Path of the browser; skips where there is none, and fails in CI."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no Chromium, see .ci/run")
        pytest.skip("no Chromium on this machine")
    return CHROMIUM


class Tab:
    """One page; scripts run in it as a person's console would."""

    def __init__(self, line: ClientConnection) -> None:
        self._line = line
        self._numbers = itertools.count(1)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        number = next(self._numbers)
        call = {"expression": script, "returnByValue": True, "awaitPromise": True}
        self._line.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": call}))
        while True:
            reply = json.loads(self._line.recv(timeout=20))
            if reply.get("id") == number:
                assert "exceptionDetails" not in reply["result"], reply["result"]
                return reply["result"]["result"].get("value")

    def until(self, script: str, timeout_s: float = 20.0) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)
        return value


@contextlib.contextmanager
def tab(url: str, folder: Path) -> Iterator[Tab]:
    """A page that is open at ``url``; ``folder`` holds the browser's files."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", url]
    process = subprocess.Popen(  # noqa: S603 - the browser that was found
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with connect(_address(folder), max_size=None, proxy=None) as line:
            yield Tab(line)
    finally:
        process.terminate()
        process.wait(20)


def _address(folder: Path) -> str:
    """Where the page's debugging line is."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError, IndexError, StopIteration):
            port = (folder / "DevToolsActivePort").read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
                pages = json.load(reply)
            return str(next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page"))
        assert time.monotonic() < deadline, "the browser did not start"
        time.sleep(0.1)
