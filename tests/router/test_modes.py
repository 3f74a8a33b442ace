"""The mode of a question follows from what is wished and what the chosen silos want."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.router.modes import (
    CLOSED,
    CUT,
    DECOY,
    UNABLE,
    WANTED,
    WishedMode,
    in_mode,
    of_fixed_number,
)
from siloquy.types import Mode, NodeId, Plan, Sealing

NORTH, SOUTH, EAST, WEST = (NodeId(name) for name in ("north", "south", "east", "west"))
EVERY = (NORTH, SOUTH, EAST, WEST)


def plan(*asked: NodeId, mode: Mode = "open") -> Plan:
    """A plan that asks these and skips the rest."""
    reasons: dict[str, str] = {silo: "likely" if silo in asked else "unlikely" for silo in EVERY}
    skipped = tuple(silo for silo in EVERY if silo not in asked)
    return Plan(mode, asked, skipped, reasons, 0.95, notes=("first",))


sealings = st.dictionaries(
    st.sampled_from(EVERY), st.sampled_from(["none", "able", "some", "all"]), max_size=4
)
plans = st.lists(st.sampled_from(EVERY), unique=True).map(lambda asked: plan(*asked))
wishes: st.SearchStrategy[WishedMode] = st.sampled_from(["auto", "open", "sealed"])


# -- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "mode"),
    [
        ({}, "open"),
        ({NORTH: "none", SOUTH: "able"}, "open"),
        ({NORTH: "able", SOUTH: "some"}, "sealed"),
        ({SOUTH: "all"}, "sealed"),
        ({EAST: "all"}, "open"),
    ],
    ids=str,
)
def test_auto_is_sealed_when_a_chosen_silo_wants_it(
    told: Mapping[NodeId, Sealing], mode: Mode
) -> None:
    found = in_mode(plan(NORTH, SOUTH), "auto", told)
    assert found.mode == mode
    assert found.notes == (("first", WANTED) if mode == "sealed" else ("first",))


def test_a_silo_that_cannot_score_sealed_questions_is_skipped_with_its_reason() -> None:
    found = in_mode(plan(NORTH, SOUTH), "sealed", {NORTH: "none", SOUTH: "able"})
    assert (found.mode, found.asked, found.skipped) == ("sealed", (SOUTH,), (EAST, WEST, NORTH))
    assert (found.reasons[NORTH], found.reasons[SOUTH]) == (UNABLE, "likely")


def test_a_silo_that_answers_sealed_questions_alone_is_skipped_by_an_open_one() -> None:
    found = in_mode(plan(NORTH, SOUTH), "open", {NORTH: "all", SOUTH: "able"})
    assert (found.mode, found.asked, found.skipped) == ("open", (SOUTH,), (EAST, WEST, NORTH))
    assert found.reasons[NORTH] == CLOSED


def test_collections_that_an_open_question_does_not_see_are_told() -> None:
    found = in_mode(plan(NORTH, SOUTH), "open", {NORTH: "some", SOUTH: "able", EAST: "some"})
    note = "collections that answer sealed questions alone are left out: north"
    assert (found.asked, found.notes) == ((NORTH, SOUTH), ("first", note))
    assert in_mode(plan(NORTH), "sealed", {NORTH: "some"}).notes == ("first",)


def test_a_silo_that_tells_nothing_is_asked_in_either_mode() -> None:
    for wished in ("open", "sealed"):
        assert in_mode(plan(NORTH), wished, {}).asked == (NORTH,)


def test_no_coverage_is_promised_where_a_silo_is_left_out_or_the_question_sealed() -> None:
    assert in_mode(plan(NORTH), "open", {NORTH: "able"}).coverage == 0.95
    assert in_mode(plan(NORTH, SOUTH), "open", {NORTH: "all"}).coverage is None
    assert in_mode(plan(NORTH), "sealed", {NORTH: "able"}).coverage is None


@given(plans, wishes, sealings)
def test_every_silo_stays_asked_or_skipped_once_with_a_reason(
    chosen: Plan, wished: WishedMode, told: dict[NodeId, Sealing]
) -> None:
    found = in_mode(chosen, wished, told)
    assert sorted((*found.asked, *found.skipped)) == sorted(EVERY)
    assert set(found.asked) <= set(chosen.asked)
    assert set(found.reasons) == set(EVERY)
    unfit = "none" if found.mode == "sealed" else "all"
    assert unfit not in [told.get(silo) for silo in found.asked]
    assert found.mode == wished or wished == "auto"


# -- a fixed number -------------------------------------------------------------------------------


@pytest.mark.parametrize("fan_out", [0, 2])
def test_a_plan_of_the_fixed_number_stays_as_it_is(fan_out: int) -> None:
    chosen = plan(NORTH, SOUTH, mode="sealed")
    assert of_fixed_number(chosen, fan_out, [EAST, WEST]) is chosen


def test_decoys_fill_up_to_the_fixed_number() -> None:
    found = of_fixed_number(plan(NORTH, mode="sealed"), 3, [WEST, SOUTH, EAST])
    assert (found.asked, found.skipped) == ((NORTH, WEST, SOUTH), (EAST,))
    assert [found.reasons[silo] for silo in (NORTH, WEST, SOUTH)] == ["likely", DECOY, DECOY]
    assert (found.coverage, found.notes) == (0.95, ("first",))


def test_what_was_chosen_beyond_the_fixed_number_is_cut_and_it_is_told() -> None:
    found = of_fixed_number(plan(NORTH, SOUTH, EAST, mode="sealed"), 2, [WEST])
    assert (found.asked, found.skipped) == ((NORTH, SOUTH), (WEST, EAST))
    assert (found.reasons[EAST], found.notes, found.coverage) == (CUT, ("first", CUT), None)


@given(plans, st.integers(0, 6), st.lists(st.sampled_from(EVERY), unique=True))
def test_exactly_the_fixed_number_is_asked_as_far_as_there_are_so_many(
    chosen: Plan, fan_out: int, order: list[NodeId]
) -> None:
    decoys = [silo for silo in order if silo in chosen.skipped]
    found = of_fixed_number(chosen, fan_out, decoys)
    possible = len(chosen.asked) + len(decoys)
    assert len(found.asked) == (min(fan_out, possible) if fan_out else len(chosen.asked))
    assert sorted((*found.asked, *found.skipped)) == sorted(EVERY)
    assert set(found.asked) <= {*chosen.asked, *decoys}
