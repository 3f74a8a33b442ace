"""A helper process, run in a thread: what comes over its line, and when it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
import pytest

from siloquy.errors import SiloquyError
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire as sealed_wire
from siloquy.sealed.scoring import SecretKey
from siloquy.silo_node import sealed_helper
from siloquy.silo_node.sealed_helper import MOST_HELPERS, Helper, ZerosByKey, serve
from tests.silo_node.hospital import unit

D = 8
KEY = SecretKey()
QUERY = unit(1, seed=1, d=D)[0]
ROWS = sealed_wire.rounded(unit(sealed_wire.BLOCK_ROWS, seed=2, d=D), sealed_wire.ROW_SCALE)


@pytest.fixture
def line() -> Iterator[Connection]:
    """The near end of a line that a thread serves; it must end with the line."""
    near, far = Pipe()
    thread = threading.Thread(target=serve, args=(far,))
    thread.start()
    yield near
    near.close()
    thread.join(10)
    assert not thread.is_alive()


def helper_on(line: Connection) -> Helper:
    helper = Helper.__new__(Helper)
    helper._line = line
    return helper


def test_what_was_prepared_is_scored_in_the_order_asked(line: Connection) -> None:
    helper, query = helper_on(line), sealed.seal_query(QUERY, KEY.public)
    for place, rows in ((4, ROWS), (7, -ROWS)):
        helper.prepare(place, rows)
    helper.ask(query.query, D, KEY.public, query.offset, [7, 4])
    scores = KEY.open_scores(helper.fetch()).astype(np.int64) - query.offset
    true = ROWS.astype(np.int64) @ sealed_wire.rounded(QUERY, query.scale).astype(np.int64)
    assert scores.tolist() == [*(-true).tolist(), *true.tolist()]
    helper.stock(2)
    helper.ask(query.query, D, KEY.public, query.offset, [])
    assert helper.fetch() == b""


@pytest.mark.parametrize("places", [[3], [0]])
def test_what_cannot_be_scored_is_told_without_its_content(
    line: Connection, places: list[int]
) -> None:
    helper = helper_on(line)
    helper.prepare(0, ROWS)
    helper.ask(os.urandom(sealed_wire.query_bytes(D)), D, KEY.public, 0, places)
    with pytest.raises(SiloquyError, match="a scoring process failed"):
        helper.fetch()
    # It goes on all the same.
    query = sealed.seal_query(QUERY, KEY.public)
    helper.ask(query.query, D, KEY.public, 0, [0])
    assert len(helper.fetch()) == sealed_wire.BLOCK_BYTES


def test_zeros_are_kept_for_the_newest_keys_and_made_for_the_last() -> None:
    zeros, keys = ZerosByKey(), [SecretKey().public for _ in range(3)]
    zeros.stock(5)
    assert len(zeros) == 0
    for key in keys:
        assert zeros.under(key) is zeros.under(key)
    zeros.stock(2)
    assert (zeros.keys, len(zeros)) == (keys[1:], len(zeros.under(keys[2]))) == (keys[1:], 2)


def test_there_are_as_many_helpers_as_other_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, helpers in ((None, 0), (1, 0), (2, 1), (64, MOST_HELPERS)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert sealed_helper.count() == helpers
