"""What every long-lived process does: it serves one folder alone, listens, and stops when told."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import IO, Any

from siloquy.errors import SettingsError, SiloquyError
from siloquy.settings import Listen

SLOW_CALLER_MS = 30_000
# A thread that is back from the disk or the encoder waits so long for a busy event loop, not 5 ms.
THREAD_SWITCH_S = 0.0005
LOCK_FILE = "serving.lock"
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.02
EXIT_WITH_PARENT = "SILOQUY_EXIT_WITH_PARENT"
_log = logging.getLogger(__name__)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


# -- one process a folder --------------------------------------------------------------------------


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """SettingsError when another process serves the node in ``folder``."""
    if not folder.is_dir():
        raise SettingsError(f"{folder} holds no node", "make one with `init` first")
    with (folder / LOCK_FILE).open("a") as lock:
        if not _locked(lock):
            raise SettingsError(
                f"another process serves {folder}", "stop it first; one process serves a node"
            )
        # A node must be able to start on a disk that takes nothing.
        with contextlib.suppress(OSError):
            os.utime(lock.fileno())
        yield


def _locked(lock: IO[str]) -> bool:
    """Whether the lock is this process's now; who only looks holds it for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return True
    return False


def serving_since(folder: Path) -> int | None:
    """When the process that serves the node began, Unix nanoseconds; None when none does."""
    path = folder / LOCK_FILE
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        pass
    return None


# -- an address ------------------------------------------------------------------------------------


def bound(listen: Listen) -> socket.socket:
    """A TCP socket at an address; SettingsError when it is taken."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's delay on: 40 ms for every reply of two packets.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: a caller that takes nothing is let go
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SLOW_CALLER_MS)
    try:
        taken.bind((listen.host, listen.port))
    except OSError as error:
        taken.close()
        raise cannot_listen(listen, error) from None
    return taken


def cannot_listen(listen: Listen, error: OSError) -> SettingsError:
    """What is wrong with an address that cannot be listened on."""
    return SettingsError(
        f"cannot listen on {listen.host}:{listen.port}: {error.strerror or 'refused'}",
        "choose another port, or stop what uses it",
    )


# -- until it is told to stop ----------------------------------------------------------------------


@contextlib.contextmanager
def logged(what: str, kind: type[SiloquyError] = SiloquyError) -> Iterator[None]:
    """Inside, an error of ``kind`` or of the database is logged and goes no further."""
    try:
        yield
    except kind as error:
        _log.warning("%s: %s", what, error.message)
    except sqlite3.Error as error:
        # A damaged file; the type alone, since SQLite may quote what it holds.
        _log.error("%s: %s", what, type(error).__name__)


async def until_stopped(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until SIGINT, SIGTERM or, for a child that should not outlive it, its parent's end.

    The first that fails ends all and its error is raised.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(item) for item in (*work, _parent_gone())]
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)


async def _parent_gone() -> None:
    # Named by the parent itself: it may be gone before a child that starts slowly looks.
    parent = os.environ.get(EXIT_WITH_PARENT)
    while parent is None or os.getppid() == int(parent):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
