"""The global top-k: what a reader with pencil and paper would rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.aggregator.merge import merge, within
from siloquy.text import ranking
from siloquy.text.ranking import LEXICAL_WEIGHT
from siloquy.types import DocumentTag, Handle, Hit, NodeId, QueryId, SearchReply, Unit, Winner

QUERY = QueryId(bytes(16))
NORTH, SOUTH = NodeId("north"), NodeId("south")


def hit(name: int, dense: float, lexical: float = 0.0, tag: int | None = None) -> Hit:
    tagged = DocumentTag(bytes([name if tag is None else tag]) * 8)
    return Hit(Handle(name.to_bytes(16, "big")), tagged, dense, lexical)


def reply(silo: NodeId, *hits: Hit) -> SearchReply:
    return SearchReply(QUERY, silo, hits)


def names(winners: Sequence[Winner]) -> list[tuple[str, int]]:
    return [(winner.silo, int.from_bytes(winner.handle, "big")) for winner in winners]


# -- against a reference --------------------------------------------------------------------------

# Few values, so that ties are common.
dense = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]) | st.floats(-1, 1)
lexical = st.sampled_from([0.0, 1.0, 2.0, 4.0]) | st.floats(0, 1e6, allow_subnormal=False)
rows = st.lists(st.tuples(dense, lexical, st.integers(0, 3)), max_size=6)
silos = st.lists(rows, max_size=4)
units: st.SearchStrategy[Unit] = st.sampled_from(["passage", "document"])


def combine(hits: Sequence[Hit]) -> NDArray[np.floating]:
    """Scores of the hits of one question."""
    dense = np.array([hit.dense for hit in hits], dtype=np.float64)
    return ranking.hybrid_scores(dense, np.array([hit.lexical for hit in hits], dtype=np.float64))


def replies_of(silos: list[list[tuple[float, float, int]]]) -> list[SearchReply]:
    return [
        reply(NodeId(f"silo-{s}"), *(hit(10 * s + i, *row) for i, row in enumerate(rows)))
        for s, rows in enumerate(silos)
    ]


NO_QUOTAS: Mapping[NodeId, int] = {}
quotas_of_some = st.dictionaries(
    st.sampled_from([NodeId(f"silo-{s}") for s in range(5)]), st.integers(0, 8)
)


def reference(
    replies: Sequence[SearchReply],
    k: int,
    unit: Unit,
    weight: float,
    quotas: Mapping[NodeId, int] = NO_QUOTAS,
) -> list[tuple[str, int]]:
    """Slow and plain: pick the best that is left and may win, k times, the first of equals."""
    left = [(item.silo, hit) for item in replies for hit in item.hits]
    most = max((hit.lexical for _, hit in left), default=0.0)

    def score(hit: Hit) -> float:
        return hit.dense + (weight * hit.lexical / most if most > 0 else 0.0)

    chosen: list[tuple[str, int]] = []
    while len(chosen) < k:
        won = Counter(silo for silo, _ in chosen)
        left = [(s, hit) for s, hit in left if won[s] < quotas.get(s, k)]
        if not left:
            break
        silo, best = max(left, key=lambda pair: score(pair[1]))
        chosen.append((silo, int.from_bytes(best.handle, "big")))
        left.remove((silo, best))
        if unit == "document":
            left = [(s, hit) for s, hit in left if (s, hit.tag) != (silo, best.tag)]
    return chosen


def without_quotas(replies: Sequence[SearchReply], k: int, unit: Unit) -> list[Winner]:
    """The merge as it was before there were quotas."""
    offered = [(reply.silo, hit) for reply in replies for hit in reply.hits]
    scores = combine([hit for _, hit in offered])
    order = [offered[i] for i in np.argsort(-scores, kind="stable")]
    if unit == "document":
        best: dict[tuple[NodeId, bytes], tuple[NodeId, Hit]] = {}
        for silo, hit in order:
            best.setdefault((silo, hit.tag), (silo, hit))
        order = list(best.values())
    return [Winner(silo, hit.handle) for silo, hit in order[:k]]


@given(silos, st.integers(0, 12), units)
def test_without_quotas_all_is_as_it_was(
    silos: list[list[tuple[float, float, int]]], k: int, unit: Unit
) -> None:
    replies = replies_of(silos)
    full = {item.silo: k for item in replies}
    for quotas in (None, {}, full):
        assert merge(replies, k, unit, quotas) == without_quotas(replies, k, unit)


@given(silos, st.integers(0, 12), units, quotas_of_some)
def test_winners_under_quotas_are_those_of_a_naive_ranking(
    silos: list[list[tuple[float, float, int]]], k: int, unit: Unit, quotas: dict[NodeId, int]
) -> None:
    replies = replies_of(silos)
    expected = reference(replies, k, unit, LEXICAL_WEIGHT, quotas)
    assert names(merge(replies, k, unit, quotas)) == expected


@given(silos, st.integers(0, 12), units, quotas_of_some)
def test_no_silo_wins_beyond_its_quota_and_no_place_stays_empty_without_need(
    silos: list[list[tuple[float, float, int]]], k: int, unit: Unit, quotas: dict[NodeId, int]
) -> None:
    replies = replies_of(silos)
    won = Counter(winner.silo for winner in merge(replies, k, unit, quotas))
    assert all(count <= quotas.get(silo, k) for silo, count in won.items())
    could = [
        min(
            quotas.get(item.silo, k),
            len({hit.tag if unit == "document" else hit.handle for hit in item.hits}),
        )
        for item in replies
    ]
    assert won.total() == min(k, sum(could))


@given(silos, st.integers(0, 12), units, st.sampled_from([0.0, LEXICAL_WEIGHT, 1.0]))
def test_winners_are_those_of_a_naive_ranking(
    silos: list[list[tuple[float, float, int]]], k: int, unit: Unit, weight: float
) -> None:
    replies = replies_of(silos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "LEXICAL_WEIGHT", weight)
        assert names(merge(replies, k, unit)) == reference(replies, k, unit, weight)


@given(silos, st.integers(1, 12), units)
def test_a_larger_k_only_adds_at_the_end(
    silos: list[list[tuple[float, float, int]]], k: int, unit: Unit
) -> None:
    replies = replies_of(silos)
    more = merge(replies, k + 3, unit)
    assert merge(replies, k, unit) == more[:k]


@given(silos, st.integers(1, 30))
def test_each_document_wins_once_and_each_wins(
    silos: list[list[tuple[float, float, int]]], k: int
) -> None:
    replies = replies_of(silos)
    tags = {hit.handle: hit.tag for item in replies for hit in item.hits}
    documents = {(item.silo, hit.tag) for item in replies for hit in item.hits}
    won = [(winner.silo, tags[winner.handle]) for winner in merge(replies, k, "document")]
    assert len(won) == len(set(won)) == min(k, len(documents))


@given(silos, st.floats(0.001, 1000))
def test_the_scale_of_lexical_scores_does_not_matter(
    silos: list[list[tuple[float, float, int]]], scale: float
) -> None:
    hits = [hit for item in replies_of(silos) for hit in item.hits]
    scaled = [Hit(h.handle, h.tag, h.dense, h.lexical * scale) for h in hits]
    assert np.allclose(combine(hits), combine(scaled))


offers = st.lists(st.tuples(st.sampled_from([NORTH, SOUTH]), st.integers()), max_size=12)


@given(
    offers,
    st.integers(-2, 14),
    st.dictionaries(st.sampled_from([NORTH, SOUTH]), st.integers(0, 8)),
)
def test_within_quotas_the_order_is_kept_and_nobody_is_passed_over_without_need(
    offered: list[tuple[NodeId, int]], k: int, quotas: dict[NodeId, int]
) -> None:
    expected: list[tuple[NodeId, int]] = []
    for item in offered:
        won = Counter(silo for silo, _ in expected)
        if len(expected) < k and won[item[0]] < quotas.get(item[0], k):
            expected.append(item)
    assert list(within(offered, quotas, k)) == expected


# -- by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["passage", "document"])
def test_without_candidates_nobody_wins(unit: Unit) -> None:
    assert merge([], 5, unit) == []
    assert merge([reply(NORTH)], 5, unit) == []


def test_no_winner_is_wanted_when_k_is_zero() -> None:
    assert merge([reply(NORTH, hit(1, 0.9))], 0, "passage") == []


def test_the_best_cosines_win_when_no_word_matches() -> None:
    replies = [reply(NORTH, hit(1, 0.2), hit(2, 0.9)), reply(SOUTH, hit(3, 0.5))]
    assert names(merge(replies, 2, "passage")) == [("north", 2), ("south", 3)]


def test_words_weigh_against_the_best_of_all_silos() -> None:
    replies = [reply(NORTH, hit(1, 0.5, 2.0)), reply(SOUTH, hit(2, 0.6, 1.0), hit(3, 0.76))]
    assert combine([h for item in replies for h in item.hits]).tolist() == [0.75, 0.725, 0.76]
    assert names(merge(replies, 3, "passage")) == [("south", 3), ("north", 1), ("south", 2)]


def test_ties_keep_the_order_of_silos_and_hits() -> None:
    replies = [reply(NORTH, hit(1, 0.5), hit(2, 0.5)), reply(SOUTH, hit(3, 0.5))]
    assert [name for _, name in names(merge(replies, 3, "passage"))] == [1, 2, 3]
    assert [name for _, name in names(merge(replies[::-1], 3, "passage"))] == [3, 1, 2]


def test_many_ties_keep_their_order_too() -> None:
    # numpy's default sort is stable for sixteen rows and no longer.
    hits = [hit(i, 0.5 + 0.1 * (i % 3)) for i in range(200)]
    won = [name for _, name in names(merge([reply(NORTH, *hits)], 200, "passage"))]
    assert won == sorted(range(200), key=lambda i: (-(i % 3), i))


def test_a_document_is_represented_by_its_best_passage() -> None:
    hits = [hit(1, 0.3, tag=7), hit(2, 0.8, tag=7), hit(3, 0.5, tag=8)]
    assert names(merge([reply(NORTH, *hits)], 5, "document")) == [("north", 2), ("north", 3)]


def test_equal_tags_of_two_silos_are_two_documents() -> None:
    replies = [reply(NORTH, hit(1, 0.5, tag=7)), reply(SOUTH, hit(2, 0.4, tag=7))]
    assert len(merge(replies, 5, "document")) == 2


def test_the_next_best_of_others_takes_the_place_of_what_is_beyond_a_quota() -> None:
    replies = [
        reply(NORTH, hit(1, 0.9), hit(2, 0.8), hit(3, 0.7)),
        reply(SOUTH, hit(4, 0.2), hit(5, 0.1)),
    ]
    assert names(merge(replies, 3, "passage", {NORTH: 1})) == [
        ("north", 1),
        ("south", 4),
        ("south", 5),
    ]
    assert names(merge(replies, 3, "passage", {NORTH: 1, SOUTH: 1})) == [("north", 1), ("south", 4)]
    assert merge(replies, 3, "passage", {NORTH: 0, SOUTH: 0}) == []


def test_a_document_counts_once_against_the_quota() -> None:
    hits = [hit(1, 0.9, tag=7), hit(2, 0.8, tag=7), hit(3, 0.7, tag=8), hit(4, 0.6, tag=9)]
    won = merge([reply(NORTH, *hits)], 5, "document", {NORTH: 2})
    assert names(won) == [("north", 1), ("north", 3)]


def test_a_quota_does_not_change_the_scores_of_others() -> None:
    """The best word score counts even where its silo may not win with it."""
    replies = [
        reply(NORTH, hit(1, 0.9, 100.0)),
        reply(SOUTH, hit(2, 0.5, 10.0), hit(3, 0.6, 0.0)),
    ]
    assert names(merge(replies, 2, "passage", {NORTH: 0})) == [("south", 3), ("south", 2)]


@pytest.mark.parametrize("quotas", [None, {NORTH: 1}])
def test_a_negative_k_wins_nothing(quotas: dict[NodeId, int] | None) -> None:
    assert merge([reply(NORTH, hit(1, 0.9))], -3, "passage", quotas) == []


def test_scores_of_no_hits_are_none() -> None:
    assert combine([]).shape == (0,)
