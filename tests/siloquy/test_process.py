"""One process a folder, an address that can be listened on."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from siloquy.errors import SettingsError
from siloquy.process import LOCK_FILE, alone, bound, serving_since
from siloquy.serve.local import free_port
from siloquy.settings import Listen


def test_replies_of_the_gateway_do_not_wait_for_a_second_packet() -> None:
    """asyncio turns Nagle's delay off for sockets that say that they are TCP."""
    with bound(Listen(port=free_port())) as taken:
        assert taken.proto == socket.IPPROTO_TCP


def test_a_look_whether_a_node_is_served_changes_nothing(tmp_path: Path) -> None:
    assert serving_since(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    before = time.time_ns()
    with alone(tmp_path):
        since = serving_since(tmp_path)
        assert since is not None
        # File systems keep coarser times than the clock.
        assert abs(since - before) < 1_000_000_000
        with pytest.raises(SettingsError, match="another process serves"):
            alone(tmp_path).__enter__()
        assert serving_since(tmp_path) == since
    assert serving_since(tmp_path) is None


def test_who_looks_does_not_keep_a_node_from_being_served(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    looking, done = threading.Event(), threading.Event()

    def look() -> None:
        while not done.is_set():
            serving_since(tmp_path)
            looking.set()

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait(5)
    try:
        with alone(tmp_path):
            pass
    finally:
        done.set()
        thread.join()
