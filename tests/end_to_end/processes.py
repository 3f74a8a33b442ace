"""The running demo federation as the process tests use it: asked over HTTP, run by its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from typer.testing import CliRunner

from siloquy import cli
from siloquy.serve.demo import Demo
from siloquy.trust.roster import ROSTER_FILE
from siloquy.types import NodeId

HOME = Path(__file__).resolve().parents[2]
VANCOMYCIN = "What is the loading dose of intravenous vancomycin in adults?"
HARBOUR, NORTHMOOR = NodeId("harbour-general"), NodeId("northmoor")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON object."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error that it printed as JSON."""
        error: dict[str, str] = self.json["error"]
        return error


def siloquy(*arguments: str | Path, cache: Path | None = None, timeout_s: float = 60.0) -> Ran:
    """Run ``siloquy`` as a person would; embeddings come from ``cache``."""
    environment = {**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    if cache is not None:
        environment["SILOQUY_ENCODER_CACHE"] = str(cache)
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "siloquy", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def run(*arguments: str | Path) -> Ran:
    """One command, in this process; ``--json`` is added."""
    result = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def until(holds: Callable[[], bool], what: str, timeout_s: float = 20.0) -> float:
    """Seconds until ``holds``."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < timeout_s, what
        time.sleep(0.1)
    return time.monotonic() - start


def error_in(reply: httpx.Response, *status: int) -> dict[str, str]:
    """The error in a refusal, which holds no stack trace."""
    assert reply.status_code in status, (reply.status_code, reply.text[:300])
    assert "Traceback" not in reply.text
    error: dict[str, str] = reply.json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["message"]
    return error


class Federation:
    """A running demo."""

    def __init__(self, demo: Demo, cache: Path) -> None:
        self.demo = demo
        self.layout = demo.layout
        self.cache = cache
        self.http = httpx.Client(base_url=demo.layout.gateway_url, trust_env=False, timeout=30.0)

    def ask(self, question: str = VANCOMYCIN, **options: object) -> dict[str, Any]:
        """A question that must be answered with 200."""
        reply = self.http.post("/v1/ask", json={"question": question, **options})
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def retrieved(self, question: str, **options: object) -> list[dict[str, Any]]:
        """Released passages, best first."""
        body = {"question": question, "route": "all", **options}
        reply = self.http.post("/v1/retrieve", json=body)
        assert reply.status_code == 200, reply.text
        passages: list[dict[str, Any]] = reply.json()["passages"]
        return passages

    def status(self) -> dict[str, Any]:
        """The gateway's own view."""
        shown: dict[str, Any] = self.http.get("/v1/status").json()
        return shown

    def process(self, node: NodeId) -> psutil.Process:
        """The process of a node."""
        return psutil.Process(self.demo.processes.running[node].pid)

    def kill(self, node: NodeId) -> None:
        """SIGKILL, as when the power fails."""
        process = self.demo.processes.running[node]
        process.kill()
        process.wait(5)

    def log(self, node: NodeId) -> str:
        """What a node has logged."""
        return (self.layout.folder / "log" / f"{node}.log").read_text()

    def run(self, *arguments: str | Path) -> Ran:
        """A command on one of the nodes, with the embeddings that are known already."""
        return siloquy(*arguments, cache=self.cache)

    def everyone_answers(self) -> bool:
        """Whether no silo is missing."""
        reply = self.http.post("/v1/ask", json={"question": VANCOMYCIN, "route": "all", "k": 1})
        return reply.status_code == 200 and reply.json()["missing"] == []

    def roster_version(self, node: NodeId) -> int:
        """The version on a node's disk."""
        data = json.loads((self.layout.of(node) / ROSTER_FILE).read_text())
        version: int = data["roster"]["version"]
        return version


class Console:
    """A console of a silo as a person runs it: links on stdout, Enter on stdin."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "siloquy", "silo", "console", "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def link(self) -> tuple[str, str]:
        """Address and token of the link that it prints next."""
        assert self.process.stdout is not None
        address, token = self.process.stdout.readline().removeprefix("open ").split("/#/open/")
        return address, token.strip()

    @contextmanager
    def entered(self) -> Iterator[httpx.Client]:
        """A browser that has opened the next link."""
        address, token = self.link()
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
            reply = http.post("/v1/session/open", json={"token": token}).raise_for_status()
            http.headers["X-CSRF-Token"] = reply.json()["csrf"]
            yield http

    def press_enter(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
