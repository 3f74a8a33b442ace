"""A disk of its own for a test, small enough to be filled; root alone can make one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

FILLER = "filler"


def _mount(*arguments: str | Path) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["mount", *map(str, arguments)],  # noqa: S607
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of ``size`` in ``folder``; False where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mounted = _mount("-t", "tmpfs", "-o", f"size={size},mode=700", "none", folder)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)  # noqa: S603, S607


def need(mounted: bool) -> None:
    """Skip where no disk could be made."""
    if not mounted:
        pytest.skip("only root may mount a small disk")


def fill(folder: Path) -> None:
    """Leave no room on the disk of ``folder``."""
    handle = os.open(folder / FILLER, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    with suppress(OSError):
        while True:
            os.write(handle, bytes(1024))
    os.close(handle)


def make_room(folder: Path) -> None:
    """Take back what ``fill`` took."""
    (folder / FILLER).unlink()


def make_read_only(folder: Path) -> None:
    """Nothing on the disk of ``folder`` can be written any more; no file may be open for it."""
    assert _mount("-o", "remount,ro", folder)
