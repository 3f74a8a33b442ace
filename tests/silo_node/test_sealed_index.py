"""A silo's rows as they are scored sealed: exactly those of now, in places that tell nothing."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.errors import Incompatible, IntegrityError, SiloquyError
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.handles import handles_of
from siloquy.sealed.scoring import SecretKey
from siloquy.sealed.wire import BLOCK_ROWS, ROW_SCALE
from siloquy.silo_node import sealed_helper, sealed_index
from siloquy.silo_node.guards import RowPlaces
from siloquy.silo_node.index import Ids
from siloquy.silo_node.sealed_helper import MOST_KEYS
from siloquy.silo_node.sealed_index import SealedIndex
from siloquy.types import Vector
from tests.silo_node.hospital import unit

D = 16
KEY = SecretKey()
NOBODY: Ids = np.zeros(0, dtype=np.int64)
NOTHING: Vector = np.zeros((0, 0), dtype=np.float32)


def ids(*numbers: int) -> Ids:
    return np.array(numbers, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Told:
    """A reply as the hub opens it, beside what the silo alone knows of it.

    numbers   passage of each row, 0 for padding
    scores    without the offset
    """

    placed: RowPlaces
    numbers: NDArray[np.int64]
    scores: NDArray[np.int64]
    expected: NDArray[np.int16]

    def best(self) -> int:
        return int(self.numbers[self.scores.argmax()])


def ask(index: SealedIndex, vector: Vector, key: SecretKey = KEY) -> Told:
    query = sealed.seal_query(vector, key.public)
    reply, placed = index.score(query.query, query.offset, key.public)
    opened = key.open_scores(reply.scores).astype(np.int64) - query.offset
    return Told(placed, numbers_of(placed, len(opened)), opened, wire.rounded(vector, query.scale))


def numbers_of(placed: RowPlaces, rows: int) -> NDArray[np.int64]:
    handles = handles_of(placed.handle_key, range(rows))
    offered = placed.offered(handles)
    return np.array([offered[handle].number for handle in handles])


@dataclass(slots=True)
class Silo:
    """An index, and the rows that it should hold."""

    index: SealedIndex = field(default_factory=lambda: SealedIndex(D))
    held: dict[int, Vector] = field(default_factory=dict)
    last: int = 0

    def change(self, add: int, remove: int = 0, seed: int = 0) -> Ids:
        """``add`` rows more and the first ``remove`` less; the numbers that went."""
        gone = ids(*list(self.held)[:remove])
        numbers = np.arange(self.last + 1, self.last + 1 + add)
        vectors = unit(add, seed, D) if add else NOTHING
        self.index.follow(gone, numbers, vectors)
        self.last += add
        self.held = {n: row for n, row in self.held.items() if n not in gone}
        self.held |= dict(zip(numbers.tolist(), vectors, strict=True))
        return gone

    def check(self, vector: Vector) -> None:
        """Raise unless the opened scores are those of exactly the rows held."""
        told = ask(self.index, vector)
        found = {int(n): int(s) for n, s in zip(told.numbers, told.scores, strict=True) if n}
        rows = {n: wire.rounded(row, ROW_SCALE).astype(int) for n, row in self.held.items()}
        assert found == {n: int(row @ told.expected.astype(int)) for n, row in rows.items()}
        assert np.count_nonzero(told.numbers) == len(self.held) == len(self.index)
        assert len(told.scores) == self.index.blocks * BLOCK_ROWS


def silo_of(rows: int) -> Silo:
    silo = Silo()
    silo.change(rows)
    return silo


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every silo counts as large, and a packing serves three questions."""
    monkeypatch.setattr(sealed_index, "SMALL_ROWS", -1)
    monkeypatch.setattr(sealed_index, "LARGE_USES", 3)


QUERY: Vector = unit(1, 99, D)[0]


# -- exactly the rows of now ----------------------------------------------------------------------

changes = st.lists(
    st.tuples(st.sampled_from([0, 1, 5, 200, 300]), st.sampled_from([0, 1, 3, 250, 1000])),
    min_size=1,
    max_size=4,
)


@given(changes, st.integers(0, 2**31))
def test_scores_are_those_of_exactly_the_current_rows(
    steps: list[tuple[int, int]], seed: int
) -> None:
    silo = Silo()
    for i, (add, remove) in enumerate(steps):
        silo.change(add, remove, seed + i)
        silo.check(unit(1, seed, D)[0])
    silo.check(QUERY)


@pytest.mark.usefixtures("large")
def test_a_packing_that_serves_on_follows_changes_too() -> None:
    silo = silo_of(400)
    for add, remove in ((1, 0), (0, 1), (3, 2), (60, 200), (300, 0)):
        silo.change(add, remove, add)
        silo.check(QUERY)


def test_an_empty_silo_answers_with_one_block() -> None:
    silo = Silo()
    silo.change(0)
    told = ask(silo.index, QUERY)
    assert (silo.index.blocks, len(silo.index), len(told.scores)) == (1, 0, BLOCK_ROWS)
    assert not told.numbers.any()
    assert len(set(told.scores.tolist())) > 100


def test_the_size_of_a_reply_is_the_size_class_of_the_silo() -> None:
    silo = silo_of(256)
    assert silo.index.blocks == 1
    silo.change(1)
    assert silo.index.blocks == 2
    silo.change(0, 200)
    silo.check(QUERY)
    silo.check(QUERY)
    assert silo.index.blocks == 1


def test_too_many_rows_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_BLOCKS", 2)
    silo = silo_of(512)
    with pytest.raises(Incompatible, match="513 passages, sealed scoring takes 512"):
        silo.change(1)


@pytest.mark.parametrize("dimension", [0, 2049])
def test_a_dimension_that_has_no_place_is_told(dimension: int) -> None:
    with pytest.raises(Incompatible, match=f"vectors of {dimension} numbers"):
        SealedIndex(dimension)


# -- what changes from question to question -------------------------------------------------------


def test_rows_of_a_small_silo_get_fresh_places_for_each_question() -> None:
    silo = silo_of(300)
    first, second, third = (ask(silo.index, QUERY).placed for _ in range(3))
    assert not np.array_equal(first.numbers, second.numbers)
    assert not np.array_equal(second.numbers, third.numbers)
    assert len({placed.handle_key for placed in (first, second, third)}) == 3


@pytest.mark.usefixtures("large")
def test_rows_of_a_large_silo_keep_their_places_for_some_questions_alone() -> None:
    silo = silo_of(300)
    seen = [ask(silo.index, QUERY).placed.numbers for _ in range(7)]
    same = [np.array_equal(a, b) for a, b in pairwise(seen)]
    assert same == [True, True, False, True, True, False]


def test_how_often_rows_get_fresh_places_depends_on_the_size() -> None:
    assert (sealed_index.SMALL_ROWS, sealed_index.SMALL_USES) == (5_000, 1)
    assert sealed_index.LARGE_USES <= 32
    small, large = SealedIndex(1), SealedIndex(1)
    for index, rows in ((small, 5_000), (large, 5_001)):
        index.follow(NOBODY, np.arange(1, rows + 1), np.ones((rows, 1), dtype=np.float32))
        index._uses = 1
        index.freshen()
    assert (small._uses, large._uses) == (0, 1)


@pytest.mark.usefixtures("large")
def test_blocks_come_in_fresh_order_for_each_question() -> None:
    silo = silo_of(8 * BLOCK_ROWS)
    orders = {tuple(ask(silo.index, QUERY).placed.order.tolist()) for _ in range(3)}
    assert len(orders) == 3
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(8))}


def test_padding_is_drawn_anew_with_the_places() -> None:
    silo = silo_of(10)
    before = {row.tobytes() for row in silo.index._levels}
    silo.index.repack()
    after = {row.tobytes() for row in silo.index._levels}
    assert len(before & after) == 10


@pytest.mark.usefixtures("large")
def test_only_blocks_that_change_are_prepared_anew() -> None:
    silo = silo_of(7 * BLOCK_ROWS + 20)
    silo.index.freshen()
    before = list(silo.index._blocks)
    silo.change(1, 1)
    silo.index.freshen()
    after = silo.index._blocks
    assert None not in after
    assert 1 <= sum(a is not b for a, b in zip(before, after, strict=True)) <= 2
    silo.check(QUERY)


# -- what has gone --------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_places", [True, False])
def test_a_row_that_went_is_found_no_more(
    monkeypatch: pytest.MonkeyPatch, keeps_places: bool
) -> None:
    if keeps_places:
        monkeypatch.setattr(sealed_index, "SMALL_USES", 99)
    silo = silo_of(40)
    row = silo.held[1]
    assert ask(silo.index, row).best() == 1
    silo.change(0, 1)
    for _ in range(3):
        told = ask(silo.index, row)
        own = int(wire.rounded(row, ROW_SCALE).astype(int) @ told.expected.astype(int))
        assert 1 not in told.numbers
        assert told.scores.max() < 0.95 * own


@pytest.mark.usefixtures("large")
def test_an_open_question_still_names_the_rows_that_it_was_answered_from() -> None:
    silo = silo_of(300)
    told = ask(silo.index, QUERY)
    for add, remove in ((5, 2), (0, 1), (300, 0)):
        silo.change(add, remove, add)
        ask(silo.index, QUERY)
        assert np.array_equal(numbers_of(told.placed, len(told.numbers)), told.numbers)
    assert 1 in told.numbers


# -- padding --------------------------------------------------------------------------------------


def test_padding_is_never_zero_and_no_copy_of_a_row() -> None:
    for rows in (0, 1, 5):
        silo = silo_of(rows)
        padding = silo.index._levels[silo.index._numbers == 0]
        assert len(padding) == BLOCK_ROWS - rows
        assert padding.any(axis=1).all()
        assert len(np.unique(padding, axis=0)) == len(padding)


@pytest.mark.parametrize("cosine", [1.0, 0.6, 0.3])
def test_padding_never_wins_against_the_row_that_it_copies(cosine: float) -> None:
    index = SealedIndex(384)
    index.follow(NOBODY, ids(1), unit(1, 1, 384))
    row, other = unit(1, 1, 384)[0], unit(1, 2, 384)[0]
    across = other - (other @ row) * row
    vector = cosine * row + np.sqrt(1 - cosine**2) * across / np.linalg.norm(across)
    for _ in range(5):
        told = ask(index, vector.astype(np.float32))
        assert told.best() == 1


def test_padding_does_not_lie_apart_from_rows() -> None:
    """Lengths of padding spread as wide as scores do: no threshold tells it from far rows."""
    silo = silo_of(128)
    told = ask(silo.index, QUERY)
    padding = told.scores[told.numbers == 0]
    assert padding.min() < 0 < padding.max()


# -- zeros ahead ----------------------------------------------------------------------------------


def test_zeros_made_ahead_are_used_by_the_next_question() -> None:
    silo = silo_of(300)
    ask(silo.index, QUERY)
    silo.index.stock()
    zeros = silo.index._zeros.under(KEY.public)
    ahead = list(zeros._made)
    assert len(ahead) == silo.index.blocks == 2
    silo.check(QUERY)
    assert len(zeros) == 0
    silo.index.stock()
    assert not {id(zero) for zero in zeros._made} & {id(zero) for zero in ahead}


def test_without_a_key_nothing_is_made_ahead() -> None:
    silo = silo_of(3)
    silo.index.stock()
    assert silo.index._zeros.keys == []


def test_the_newest_keys_alone_are_kept() -> None:
    silo, keys = silo_of(3), [SecretKey() for _ in range(MOST_KEYS + 1)]
    for key in (*keys, keys[-1]):
        assert ask(silo.index, silo.held[2], key).best() == 2
    assert silo.index._zeros.keys == [key.public for key in keys[1:]]


# -- other cores ----------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every silo is large enough for two helpers."""
    monkeypatch.setattr(sealed_index, "SHARED_BLOCKS", 1)
    monkeypatch.setattr(sealed_index, "count", lambda: 2)


@pytest.mark.usefixtures("shared")
def test_helpers_score_their_share_exactly_and_follow_every_change() -> None:
    silo = silo_of(5 * BLOCK_ROWS)
    silo.check(QUERY)
    processes = [helper._process for helper in silo.index._helpers]
    silo.index.freshen()
    silo.index.stock()
    silo.check(QUERY)
    silo.change(3, remove=7, seed=4)
    silo.check(QUERY)
    assert [helper._process for helper in silo.index._helpers] == processes
    silo.index.close()
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.usefixtures("shared")
def test_a_helper_that_ends_is_told_and_replaced() -> None:
    silo = silo_of(3 * BLOCK_ROWS)
    silo.check(QUERY)
    silo.index._helpers[1]._process.kill()
    silo.index._helpers[1]._process.join(10)
    with pytest.raises(SiloquyError, match="has ended") as told:
        ask(silo.index, QUERY)
    assert told.value.hint == "ask the question again"
    silo.check(QUERY)
    assert len(silo.index._helpers) == 2
    silo.index.close()


@pytest.mark.usefixtures("shared")
def test_no_answer_of_a_question_that_failed_is_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silo = silo_of(3 * BLOCK_ROWS)
    silo.check(QUERY)
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "score", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ask(silo.index, QUERY)
    assert silo.index._helpers == []
    silo.check(unit(1, seed=9, d=D)[0])
    silo.index.close()


def test_a_helper_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_helper, "END_TIMEOUT_S", 0.2)
    helper = sealed_helper.Helper()
    assert helper._process.pid is not None
    os.kill(helper._process.pid, signal.SIGSTOP)
    helper.close()
    assert helper._process.exitcode == -signal.SIGKILL


def test_a_machine_with_one_core_has_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_index, "SHARED_BLOCKS", 1)
    monkeypatch.setattr(sealed_index, "count", lambda: 0)
    silo = silo_of(3)
    silo.check(QUERY)
    before = list(silo.index._blocks)
    silo.index._uses = 0
    silo.index.freshen()
    assert all(a is b for a, b in zip(silo.index._blocks, before, strict=True))
    assert silo.index._helpers == []


# -- malformed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["query", "key"])
def test_what_is_malformed_is_refused_before_a_row_is_scored(
    monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    silo = silo_of(3)
    query, public = sealed.seal_query(QUERY, KEY.public).query, KEY.public
    if spoil == "query":
        query = os.urandom(len(query))
    else:
        public = bytes(len(public))
    calls: list[object] = []
    monkeypatch.setattr(sealed, "score", lambda *given: calls.append(given))
    with pytest.raises(IntegrityError):
        silo.index.score(query, 0, public)
    assert (calls, silo.index._uses) == ([], 0)


# -- at once --------------------------------------------------------------------------------------


def test_questions_changes_and_preparations_at_once_spoil_nothing() -> None:
    silo = silo_of(300)
    stays = silo.held[300]

    def work(turn: int) -> int:
        if turn % 4 == 1:
            silo.index.follow(ids(turn), ids(1000 + turn), unit(1, turn, D))
        if turn % 4 == 2:
            silo.index.freshen()
            silo.index.stock()
        return ask(silo.index, stays).best()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(24))) == {300}
    assert len(silo.index) == 300


# -- randomness -----------------------------------------------------------------------------------


@given(st.integers(0, 60))
def test_a_permutation_holds_each_place_once(n: int) -> None:
    assert sorted(sealed_index._permutation(n).tolist()) == list(range(n))


def test_what_is_drawn_has_the_right_spread() -> None:
    drawn = sealed_index._gaussian(400, 15)
    assert drawn.shape == (400, 15)
    assert abs(drawn.mean()) < 0.1
    assert drawn.std() == pytest.approx(1, abs=0.1)
    assert set(sealed_index._below(3, 200).tolist()) == {0, 1, 2}
    uniform = sealed_index._uniform(2000)
    assert 0 < uniform.min() < 0.01 < 0.99 < uniform.max() < 1
