"""Which silos are asked: enough of them, the likeliest first, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import SettingsError
from siloquy.router import choice
from siloquy.router.choice import (
    CUT,
    LEFT_OUT,
    USUAL_THRESHOLDS,
    ChoiceLimits,
    Target,
    ask_all,
    choose,
)
from siloquy.types import Intent, NodeId, Plan

PROMISED = Target(0.05, 0.9)


def names(n: int) -> list[NodeId]:
    return [NodeId(f"silo-{i}") for i in range(n)]


def plan(
    shares: Sequence[float],
    *,
    target: Target = PROMISED,
    limits: ChoiceLimits | None = None,
    intent: Intent = "precise",
    about: dict[NodeId, tuple[str, ...]] | None = None,
) -> Plan:
    """A choice among silo-0, silo-1 and so on for the best ten."""
    silos = names(len(shares))
    return choose(
        silos, np.array(shares), 10, intent, target, limits or ChoiceLimits(), about or {}
    )


def barred(*silos: str) -> ChoiceLimits:
    return ChoiceLimits(barred=dict.fromkeys(map(NodeId, silos), "is barred"))


weights = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(
    lambda row: [weight / max(sum(row), 1e-9) for weight in row]
)
some = st.sets(st.integers(0, 9).map(lambda i: NodeId(f"silo-{i}")))
limits = st.builds(
    lambda most, costs, barred, obliged: ChoiceLimits(
        most, costs, dict.fromkeys(sorted(barred), "is barred"), dict.fromkeys(sorted(obliged), "x")
    ),
    st.integers(0, 4),
    st.dictionaries(st.integers(0, 9).map(lambda i: NodeId(f"silo-{i}")), st.floats(0.1, 9)),
    some,
    some,
)
thresholds = st.one_of(st.floats(0, 1), st.just(float("inf")))
intents = st.sampled_from(["precise", "diverse", "fast"])


@given(weights, thresholds, limits, intents)
def test_every_silo_is_asked_or_skipped_with_a_reason(
    shares: list[float], threshold: float, limits: ChoiceLimits, intent: Intent
) -> None:
    found = plan(shares, target=Target(threshold, 0.9), limits=limits, intent=intent)
    every = {*names(len(shares)), *limits.barred, *limits.obliged}
    assert sorted((*found.asked, *found.skipped)) == sorted(every) == sorted(found.reasons)
    assert all(found.reasons.values())
    assert not set(found.asked) & set(limits.barred)
    assert not limits.most or len(found.asked) <= limits.most


@given(weights, thresholds, thresholds, limits, intents)
def test_a_lower_threshold_never_asks_fewer(
    shares: list[float], one: float, other: float, limits: ChoiceLimits, intent: Intent
) -> None:
    low, high = (
        plan(shares, target=Target(threshold, None), limits=limits, intent=intent)
        for threshold in sorted((one, other))
    )
    assert len(low.asked) >= len(high.asked)
    assert limits.most or set(low.asked) >= set(high.asked)


@given(weights, thresholds, limits)
def test_a_promise_is_made_only_where_the_best_may_all_be_asked(
    shares: list[float], threshold: float, limits: ChoiceLimits
) -> None:
    found = plan(shares, target=Target(threshold, 0.9), limits=limits)
    ranked = choice.priorities(names(len(shares)), np.array(shares), limits.costs)
    over = {name for name, p in zip(names(len(shares)), ranked, strict=True) if p >= threshold > 0}
    if found.coverage is not None:
        assert {name for name in over if shares[int(name[5:])] > 0} <= set(found.asked)
        assert not found.notes


def test_the_likeliest_is_asked_first_and_the_unlikely_not() -> None:
    found = plan([0.02, 0.18, 0.8])
    assert (found.asked, found.skipped) == (("silo-2", "silo-1"), ("silo-0",))
    assert list(found.reasons) == ["silo-2", "silo-1", "silo-0"]
    assert found.coverage == 0.9


def test_reasons_say_how_many_are_expected_and_of_what() -> None:
    found = plan([0.8, 0.06, 0.04, 0.0], about={NodeId("silo-0"): ("asthma", "sepsis")})
    assert found.reasons == {
        "silo-0": "likely to hold about 8 of the best 10 passages; covers asthma and sepsis",
        "silo-1": "may hold one of the best 10 passages (0.6 expected)",
        "silo-2": "may hold one of the best 10 passages (0.4 expected), fewer than the others",
        "silo-3": "holds no passages",
    }


def test_the_first_is_asked_whatever_the_threshold() -> None:
    assert plan([0.4, 0.6], target=Target(float("inf"), 0.9)).asked == ("silo-1",)


def test_several_hospitals_are_asked_for_a_diverse_answer() -> None:
    shares = [0.96, 0.02, 0.01, 0.01]
    assert plan(shares, intent="diverse").asked == ("silo-0", "silo-1", "silo-2")
    assert plan([1.0, 0.0], intent="diverse").asked == ("silo-0",)


def test_a_costly_silo_must_promise_more() -> None:
    costly = ChoiceLimits(costs={NodeId("silo-0"): 4.0})
    assert plan([0.18, 0.82], limits=costly).asked == ("silo-1",)
    assert plan([0.24, 0.76], limits=costly).asked == ("silo-1", "silo-0")


def test_most_silos_cuts_the_least_likely_and_the_promise() -> None:
    found = plan([0.2, 0.3, 0.5], limits=ChoiceLimits(most=2))
    assert (found.asked, found.coverage, found.notes) == (("silo-2", "silo-1"), None, (CUT,))
    assert found.reasons["silo-0"] == "no more than 2 silos are asked (most_silos)"
    enough = plan([0.01, 0.49, 0.5], limits=ChoiceLimits(most=2))
    assert (enough.coverage, enough.notes) == (0.9, ())


def test_obliged_silos_do_not_go_beyond_most_silos() -> None:
    obliged = dict.fromkeys(map(NodeId, ("x", "y")), "shows no profile")
    found = plan([0.01, 0.99], limits=ChoiceLimits(most=2, obliged=obliged))
    assert (found.asked, found.coverage) == (("silo-1", "x"), None)
    assert found.reasons["x"] == "shows no profile"
    assert "most_silos" in found.reasons["y"]


def test_a_barred_silo_that_may_hold_some_of_the_best_cancels_the_promise() -> None:
    found = plan([0.3, 0.7], limits=barred("silo-0"))
    assert (found.asked, found.coverage, found.notes) == (("silo-1",), None, (LEFT_OUT,))
    assert found.reasons["silo-0"] == "is barred"


def test_a_barred_silo_of_little_use_leaves_the_promise() -> None:
    found = plan([0.01, 0.99], limits=barred("silo-0", "stranger"))
    assert (found.coverage, found.notes) == (0.9, ())
    assert found.skipped == ("silo-0", "stranger")


def test_the_likeliest_cancels_the_promise_when_barred_however_high_the_threshold() -> None:
    found = plan([0.3, 0.7], target=Target(float("inf"), 0.9), limits=barred("silo-1"))
    assert (found.asked, found.coverage) == (("silo-0",), None)


def test_an_obliged_silo_that_is_barred_cancels_the_promise() -> None:
    limits = ChoiceLimits(barred={NodeId("x"): "rests"}, obliged={NodeId("x"): "shows no profile"})
    assert plan([1.0], limits=limits).coverage is None


def test_without_a_promise_there_is_nothing_to_note() -> None:
    found = plan([0.5, 0.5], target=Target(0.05, None), limits=barred("silo-0"))
    assert (found.coverage, found.notes) == (None, ())


def test_nobody_is_asked_where_everybody_is_barred() -> None:
    found = plan([0.5, 0.5], limits=barred("silo-0", "silo-1"))
    assert (found.asked, found.coverage) == ((), None)


def test_without_silos_nobody_is_asked() -> None:
    assert plan([]).asked == ()


@given(st.floats(0.01, 0.999), st.floats(0.01, 0.999))
def test_more_coverage_usually_takes_a_lower_threshold(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert choice.usual_threshold(low) >= choice.usual_threshold(high) > 0


def test_usual_thresholds_are_the_measured_ones() -> None:
    for coverage, threshold in USUAL_THRESHOLDS.items():
        assert choice.usual_threshold(coverage) == pytest.approx(threshold)


def test_asking_all_asks_all() -> None:
    found = ask_all([NodeId("a"), NodeId("b")])
    assert (found.asked, found.skipped) == (("a", "b"), ())
    assert found.reasons == {"a": "all silos are asked", "b": "all silos are asked"}


def test_costs_are_read_by_name() -> None:
    assert choice.costs(["st-anna=2.5", "north=1"]) == {"st-anna": 2.5, "north": 1.0}


@pytest.mark.parametrize("entry", ["st-anna", "st-anna=", "st-anna=dear", "st-anna=0", "a=nan"])
def test_odd_costs_are_refused(entry: str) -> None:
    with pytest.raises(SettingsError):
        choice.costs([entry])
