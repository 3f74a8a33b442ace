"""Session keys that come and go, and a merge of sealed scores that equals one in clear."""

from __future__ import annotations

import hashlib
import os
import typing
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.aggregator.merge import merge
from siloquy.aggregator.sealing import SESSION_MS, SPARE_MS, Best, SealingSessions, merge_sealed
from siloquy.codec import decode
from siloquy.errors import IntegrityError
from siloquy.sealed import scoring as sealed
from siloquy.sealed import wire
from siloquy.sealed.handles import handles_of, new_key
from siloquy.sealed.scoring import SecretKey, Zeros
from siloquy.trust import roster as rosters
from siloquy.trust.identity import SEALING_CONTEXT
from siloquy.types import (
    DocumentTag,
    Hit,
    MergeReply,
    NodeId,
    QueryId,
    SealedScores,
    SealingKey,
    SearchReply,
    SignedMessage,
    Ticket,
    Vector,
    Winner,
)
from tests.product import sources
from tests.silo_node.hospital import Clock, unit
from tests.siloquy.federation import NOW, Federation

D = 8


class Hub:
    """The sessions of a hub, and a clock that is moved by hand."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.clock = Clock()
        self.sessions = SealingSessions(federation.hub, self.clock)

    def key(self) -> SealingKey:
        """The key of now, its signature checked."""
        return self.read(self.sessions.key())

    def read(self, signed: SignedMessage) -> SealingKey:
        body = rosters.open_signed(self.federation.roster, signed, SEALING_CONTEXT, "hub")
        return decode(SealingKey, body)

    def opens(self, signed: SignedMessage) -> bool:
        try:
            self.sessions.check(key_hash(signed))
        except IntegrityError:
            return False
        return True


@pytest.fixture
def hub(federation: Federation) -> Hub:
    return Hub(federation)


def key_hash(signed: SignedMessage) -> bytes:
    return hashlib.sha256(signed.body).digest()


def scored(key: SealingKey, vector: Vector, rows: Vector) -> tuple[SealedScores, list[int]]:
    """What a silo of these rows answers, and the scores that are in it, without the offset."""
    query = sealed.seal_query(vector, key.public)
    levels = np.zeros((wire.BLOCK_ROWS, D), dtype=np.int16)
    levels[: len(rows)] = wire.rounded(rows, wire.ROW_SCALE)
    opened = sealed.open_query(query.query, D)
    data = sealed.score(opened, [sealed.prepare(levels)], Zeros(key.public), query.offset)
    expected = levels.astype(int) @ wire.rounded(vector, query.scale).astype(int)
    return SealedScores(data, new_key()), expected.tolist()


# -- sessions -------------------------------------------------------------------------------------


def test_the_key_is_signed_by_the_hub_and_says_how_long_it_holds(hub: Hub) -> None:
    key = hub.key()
    assert (key.created, key.expires) == (NOW, NOW + SESSION_MS + SPARE_MS)
    assert sealed.read_key(key.public).shape == (2, wire.DEGREE)


def test_one_session_has_one_key_and_the_next_another(hub: Hub) -> None:
    first = hub.sessions.key()
    hub.clock.now += SESSION_MS
    assert hub.sessions.key() == first
    hub.clock.now += 1
    second = hub.sessions.key()
    assert hub.read(second).public != hub.read(first).public
    assert hub.read(second).created == hub.clock.now


def test_a_key_opens_what_is_on_its_way_and_then_no_more(hub: Hub) -> None:
    first = hub.sessions.key()
    hub.clock.now += SESSION_MS + 1
    second = hub.sessions.key()
    assert (hub.opens(first), hub.opens(second)) == (True, True)
    hub.clock.now = NOW + SESSION_MS + SPARE_MS
    assert hub.opens(first)
    hub.clock.now += 1
    assert (hub.opens(first), hub.opens(second)) == (False, True)


def test_keys_of_the_past_are_forgotten(hub: Hub) -> None:
    for _ in range(4):
        hub.sessions.key()
        hub.clock.now += SESSION_MS + SPARE_MS + 1
    hub.sessions.key()
    assert len(hub.sessions._sessions) == 1


async def test_a_restarted_hub_opens_nothing_of_before(hub: Hub, federation: Federation) -> None:
    signed = hub.sessions.key()
    scores, _ = scored(hub.read(signed), unit(1, 0, D)[0], unit(3, 1, D))
    restarted = SealingSessions(federation.hub, hub.clock)
    restarted.key()
    with pytest.raises(IntegrityError, match="key of another session"):
        restarted.check(key_hash(signed))
    with pytest.raises(IntegrityError, match="key of another session"):
        await restarted.best(scores, key_hash(signed), 3)


@pytest.mark.parametrize("wrong", [b"", bytes(32), bytes(31)])
def test_a_hash_of_no_session_is_refused(hub: Hub, wrong: bytes) -> None:
    hub.sessions.key()
    with pytest.raises(IntegrityError, match="key of another session"):
        hub.sessions.check(wrong)


def on_disk(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def open_files() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink():
            found.add(str(descriptor.readlink()))
    return found


def test_no_session_is_ever_written_to_disk(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    files, opened = on_disk(tmp_path), open_files()
    hub.sessions.key()
    hub.clock.now += SESSION_MS + 1
    hub.sessions.key()
    assert on_disk(tmp_path) == files
    new = [name for name in open_files() - opened if name.startswith("/")]
    assert all(name.startswith(("/memfd:siloquy-sealed", "/proc/")) for name in new)


# -- the best of one reply ------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 5, 256, 999])
async def test_the_best_rows_of_a_reply_are_those_of_the_scores_in_clear(hub: Hub, k: int) -> None:
    signed = hub.sessions.key()
    scores, expected = scored(hub.read(signed), unit(1, 0, D)[0], unit(40, 1, D))
    best = await hub.sessions.best(scores, key_hash(signed), k)
    assert best.handle_key == scores.handle_key
    assert best.places.tolist() == sorted(range(256), key=lambda i: -expected[i])[:k]


@pytest.mark.parametrize("size", [0, 16, 31, 33])
async def test_a_handle_key_of_another_size_is_refused(hub: Hub, size: int) -> None:
    signed = hub.sessions.key()
    scores = SealedScores(bytes(wire.BLOCK_BYTES), bytes(size))
    with pytest.raises(IntegrityError, match="of another size"):
        await hub.sessions.best(scores, key_hash(signed), 3)


@pytest.mark.parametrize("size", [0, 1, wire.BLOCK_BYTES + 1, 17 * wire.BLOCK_BYTES])
async def test_scores_of_no_size_class_are_refused(hub: Hub, size: int) -> None:
    signed = hub.sessions.key()
    with pytest.raises(IntegrityError, match="no size class"):
        await hub.sessions.best(SealedScores(bytes(size), bytes(32)), key_hash(signed), 3)


# -- the merge ------------------------------------------------------------------------------------

# Few values, so that ties are common.
masked = st.lists(st.sampled_from([-(2**22), -1, 0, 1, 7]) | st.integers(-(2**23), 2**23 - 1))
silos = st.lists(masked, max_size=4)
names = [NodeId(f"silo-{s}") for s in range(4)]
quotas_of_some = st.dictionaries(st.sampled_from(names), st.integers(0, 8))


def best_of(scores: list[int], k: int, key: bytes) -> Best:
    array = np.array(scores, dtype=np.int32)
    places = np.argsort(-array, kind="stable")[: max(k, 0)]
    return Best(key, places, array[places])


def in_clear(silo: NodeId, scores: list[int], key: bytes) -> SearchReply:
    """The same scores as an open reply would tell them."""
    handles = handles_of(key, range(len(scores)))
    tags = [DocumentTag(handle[:8]) for handle in handles]
    hits = [Hit(h, t, float(s), 0.0) for h, t, s in zip(handles, tags, scores, strict=True)]
    return SearchReply(QueryId(bytes(16)), silo, tuple(hits))


@given(silos, st.integers(-1, 12), quotas_of_some)
def test_winners_are_those_of_a_merge_in_clear(
    silos: list[list[int]], k: int, quotas: dict[NodeId, int]
) -> None:
    keyed = [(silo, scores, new_key()) for silo, scores in zip(names, silos, strict=False)]
    # Within its quota a silo may win with less than its best k alone.
    best = {silo: best_of(scores, k, key) for silo, scores, key in keyed}
    replies = [in_clear(*item) for item in keyed]
    assert merge_sealed(best, k, quotas) == merge(replies, k, "passage", quotas)
    assert merge_sealed(best, k) == merge(replies, k, "passage")


@given(silos, st.integers(0, 12), quotas_of_some)
def test_no_silo_wins_beyond_its_quota(
    silos: list[list[int]], k: int, quotas: dict[NodeId, int]
) -> None:
    best = {s: best_of(scores, k, new_key()) for s, scores in zip(names, silos, strict=False)}
    won = Counter(winner.silo for winner in merge_sealed(best, k, quotas))
    assert all(count <= quotas.get(silo, k) for silo, count in won.items())
    could = [min(quotas.get(silo, k), len(one.places)) for silo, one in best.items()]
    assert won.total() == min(k, sum(could))


def test_without_replies_nobody_wins() -> None:
    assert merge_sealed({}, 5) == []
    assert merge_sealed({names[0]: best_of([], 5, new_key())}, 5) == []


def test_ties_keep_the_order_of_silos_and_rows() -> None:
    keys = [new_key(), new_key()]
    best = {s: best_of([5, 5, 5], 3, key) for s, key in zip(names, keys, strict=False)}
    expected = [
        Winner(silo, handle)
        for silo, key in zip(names, keys, strict=False)
        for handle in handles_of(key, range(3))
    ]
    assert merge_sealed(best, 6) == expected


# -- no score leaves ------------------------------------------------------------------------------


def numbers_in(kind: type) -> set[str]:
    """Fields of a message that could hold a score."""
    hints = {name: str(hint) for name, hint in typing.get_type_hints(kind).items()}
    return {name for name, hint in hints.items() if "float" in hint or "ndarray" in hint}


def test_what_leaves_the_hub_of_a_sealed_question_has_no_place_for_a_score() -> None:
    assert numbers_in(Winner) == set()
    assert numbers_in(MergeReply) == {"silo_ms"}
    assert numbers_in(Ticket) == {"claims", "lexical"}


def test_a_best_row_shows_no_score_by_name() -> None:
    assert [item.name for item in fields(Best) if not item.name.startswith("_")] == [
        "handle_key",
        "places",
    ]


def test_only_the_merge_opens_scores() -> None:
    callers = {
        name
        for name, path in sources("eval")
        if ".open_scores(" in path.read_text(encoding="utf-8")
    }
    assert callers == {"aggregator/sealing.py"}


def test_a_secret_key_makes_scores_of_random_bytes_that_mean_nothing() -> None:
    opened = SecretKey().open_scores(os.urandom(wire.BLOCK_BYTES))
    assert len(set(opened.tolist())) > 200
