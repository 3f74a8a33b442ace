"""Which silos are asked: enough of them, the likeliest first, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from siloquy.router.choice import RADIUS_PER_SPREAD, BaselineRouter, ask_all, expect, fewest
from siloquy.types import EncoderSpec, NodeId, Profile

DIMENSION = 8
ENCODER = EncoderSpec("tiny", "00" * 32, DIMENSION)
QUERY = np.eye(DIMENSION, dtype=np.float32)[0]


def profile(silo: str, *clusters: tuple[int, float, float], size: int | None = None) -> Profile:
    """A profile of clusters (count, cosine to QUERY, spread)."""
    means = np.zeros((len(clusters), DIMENSION))
    means[:, 0] = [cosine for _, cosine, _ in clusters]
    counts = tuple(count for count, _, _ in clusters)
    return Profile(
        silo=NodeId(silo),
        version=1,
        created=0,
        expires=1,
        encoder=ENCODER,
        size=sum(counts) if size is None else size,
        centroids=np.rint(127 * means).astype(np.int8).tobytes(),
        counts=counts,
        radii=tuple(RADIUS_PER_SPREAD * spread for _, _, spread in clusters),
        frequencies=b"",
    )


def tiny(silo: str, size: int) -> Profile:
    """A silo that tells its size alone."""
    return profile(silo, size=size)


def shares(profiles: Sequence[Profile], k: int = 10) -> dict[str, float]:
    found = expect(QUERY, profiles, k)
    return dict(zip(found.silos, found.passages.tolist(), strict=True))


clusters = st.tuples(st.integers(1, 500), st.floats(-0.5, 0.9), st.floats(0, 0.3))
profiles = st.lists(st.lists(clusters, min_size=1, max_size=4), min_size=1, max_size=5).map(
    lambda rows: [profile(f"silo-{i}", *row) for i, row in enumerate(rows)]
)


# -- expectations ---------------------------------------------------------------------------------


@given(profiles, st.integers(1, 50))
def test_expected_passages_sum_to_about_k(profiles: list[Profile], k: int) -> None:
    held = sum(item.size for item in profiles)
    expected = expect(QUERY, profiles, k).passages
    assert expected.sum() == pytest.approx(min(k, held / 2), rel=1e-3)
    assert (expected >= 0).all()


@given(profiles, st.integers(1, 50))
def test_no_silo_is_expected_to_hold_more_than_it_has(profiles: list[Profile], k: int) -> None:
    expected = expect(QUERY, profiles, k).passages
    assert all(got <= item.size for got, item in zip(expected, profiles, strict=True))


@given(st.integers(20, 500), st.integers(1, 400), st.floats(-0.2, 0.9), st.floats(0.01, 0.3))
def test_of_two_silos_alike_the_larger_is_expected_to_hold_more(
    size: int, more: int, cosine: float, spread: float
) -> None:
    small = profile("small", (size, cosine, spread))
    large = profile("large", (size + more, cosine, spread))
    expected = shares([small, large])
    assert expected["large"] > expected["small"]
    assert expected["large"] / expected["small"] == pytest.approx((size + more) / size)


def test_of_two_silos_alike_the_nearer_is_expected_to_hold_more() -> None:
    expected = shares([profile("far", (100, 0.3, 0.1)), profile("near", (100, 0.6, 0.1))])
    assert expected["near"] > 9
    assert expected["far"] < 1


def test_one_near_cluster_counts_more_than_many_middling_ones() -> None:
    mixed = profile("mixed", (90, 0.1, 0.05), (10, 0.8, 0.05))
    even = profile("even", (100, 0.4, 0.05))
    assert shares([mixed, even], k=5)["mixed"] > 4.9


def test_wide_spread_reaches_further() -> None:
    expected = shares([profile("tight", (100, 0.4, 0.02)), profile("wide", (100, 0.4, 0.2))], k=5)
    assert expected["wide"] > expected["tight"]


def test_a_spread_of_none_is_taken_as_a_small_one() -> None:
    expected = shares([profile("a", (100, 0.4, 0.0)), profile("b", (100, 0.4, 0.02))])
    assert expected["a"] == pytest.approx(expected["b"])


def test_without_profiles_nothing_is_expected() -> None:
    assert shares([]) == {}


# -- the fewest that suffice ----------------------------------------------------------------------

amounts = st.lists(st.floats(0, 100), max_size=8).map(np.array)


@given(amounts, st.floats(0, 1), st.floats(0, 1))
def test_more_coverage_asks_the_same_silos_and_perhaps_more(
    expected: NDArray[np.float64], one: float, other: float
) -> None:
    low, high = sorted((one, other))
    less = fewest(expected, low)
    assert fewest(expected, high)[: len(less)] == less


@given(amounts, st.floats(0, 1))
def test_the_chosen_reach_the_coverage_and_one_fewer_would_not(
    expected: NDArray[np.float64], coverage: float
) -> None:
    chosen, total = fewest(expected, coverage), float(expected.sum())
    if total <= 0:
        assert chosen == list(range(len(expected)))
        return
    reached = np.cumsum(expected[chosen]) / total
    assert reached[-1] >= coverage - 1e-9
    assert len(chosen) == 1 or reached[-2] < coverage
    assert sorted(expected[chosen], reverse=True) == expected[chosen].tolist()


def test_at_least_one_silo_is_asked() -> None:
    assert fewest(np.array([1.0, 3.0, 2.0]), 0.0) == [1]
    assert fewest(np.zeros(0), 0.5) == []


def test_where_nothing_is_expected_everybody_is_asked() -> None:
    assert fewest(np.zeros(3), 0.5) == [0, 1, 2]


# -- plans ----------------------------------------------------------------------------------------


def test_a_single_silo_is_asked() -> None:
    plan = BaselineRouter(0.95).plan(QUERY, [profile("only", (50, 0.1, 0.1))], 10)
    assert (plan.asked, plan.skipped, plan.mode) == (("only",), (), "open")
    assert plan.reasons == {"only": "expected to hold 10.0 of the best 10"}


def test_the_likeliest_is_asked_first_and_the_unlikely_not() -> None:
    silos = [profile(name, (100, cosine, 0.05)) for name, cosine in (("b", 0.1), ("a", 0.8))]
    plan = BaselineRouter(0.95).plan(QUERY, silos, 10)
    assert (plan.asked, plan.skipped) == (("a",), ("b",))
    assert BaselineRouter(1.0).plan(QUERY, silos, 10).asked[0] == "a"


def test_a_small_silo_is_always_asked_and_an_empty_one_never() -> None:
    silos = [profile("large", (100, 0.5, 0.1)), tiny("small", 7), tiny("empty", 0)]
    plan = BaselineRouter(0.5).plan(QUERY, silos, 10)
    assert (plan.asked, plan.skipped) == (("large", "small"), ("empty",))
    assert "too small" in plan.reasons["small"]
    assert plan.reasons["empty"] == "holds no passages"


def test_small_silos_alone_are_all_asked() -> None:
    plan = BaselineRouter(0.95).plan(QUERY, [tiny("a", 3), tiny("b", 1)], 10)
    assert (plan.asked, plan.skipped) == (("a", "b"), ())


def test_without_profiles_nobody_is_asked() -> None:
    plan = BaselineRouter(0.95).plan(QUERY, [], 10)
    assert (plan.asked, plan.skipped, plan.reasons) == ((), (), {})


mixed = st.tuples(profiles, st.lists(st.integers(0, 19), max_size=3)).map(
    lambda pair: [*pair[0], *(tiny(f"tiny-{i}", size) for i, size in enumerate(pair[1]))]
)


@given(mixed, st.floats(0, 1), st.integers(1, 30))
def test_every_silo_is_asked_or_skipped_and_has_its_reason(
    profiles: list[Profile], coverage: float, k: int
) -> None:
    plan = BaselineRouter(coverage).plan(QUERY, profiles, k)
    silos = sorted(item.silo for item in profiles)
    assert sorted((*plan.asked, *plan.skipped)) == silos == sorted(plan.reasons)


@given(mixed, st.floats(0, 1), st.floats(0, 1))
def test_coverage_never_takes_a_silo_away(
    profiles: list[Profile], one: float, other: float
) -> None:
    low, high = (
        set(BaselineRouter(share).plan(QUERY, profiles, 10).asked) for share in sorted((one, other))
    )
    assert low <= high


def test_asking_all_asks_all() -> None:
    plan = ask_all([NodeId("a"), NodeId("b")])
    assert (plan.asked, plan.skipped) == (("a", "b"), ())
    assert plan.reasons == {"a": "all silos are asked", "b": "all silos are asked"}
