"""The page in a real browser: it loads under its strict policy, and its script runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn

from tests.generator.served import Federation, desktop

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
    "--virtual-time-budget=4000",
)


@pytest.fixture
def page() -> Iterator[str]:
    with closing(socket.socket()) as bound, desktop(Federation()) as desk:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(desk.app, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def test_the_page_runs_its_script_and_tells_how_many_silos_it_knows(
    page: str, tmp_path: Path
) -> None:
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no Chromium, see .ci/run")
        pytest.skip("no Chromium on this machine")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--enable-logging=stderr"]
    done = subprocess.run(  # noqa: S603 - the browser that was found
        [*command, "--dump-dom", page], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Hub line up, 1 of 2 silos with a profile" in done.stdout
    assert "Content Security Policy" not in done.stderr
    assert "Uncaught" not in done.stderr
