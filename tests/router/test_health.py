"""Silos that do not answer rest for a while; slow ones are left out of fast answers."""

from __future__ import annotations

import pytest

from siloquy.errors import MissingReason
from siloquy.router.health import MISSES, REFUSAL_MS, REST_MS, Health
from siloquy.types import Missing, NodeId

NORTH, SOUTH = NodeId("north"), NodeId("south")


class Ward:
    """A health record with a clock."""

    def __init__(self) -> None:
        self.now = 0
        self.health = Health(lambda: self.now)

    def note(self, reason: MissingReason | None = None, ms: float = 20.0) -> None:
        """A question to north."""
        missing = [] if reason is None else [Missing(NORTH, reason)]
        self.health.note([NORTH], missing, {} if reason else {NORTH: ms})


@pytest.fixture
def ward() -> Ward:
    return Ward()


def test_a_silo_nobody_heard_of_is_fit(ward: Ward) -> None:
    assert ward.health.unfit(NORTH, 1.0) == ""
    assert not ward.health.refused(NORTH)
    assert ward.health.all_unfit(1.0) == {}


@pytest.mark.parametrize("reason", ["unreachable", "timeout"])
def test_after_three_misses_a_silo_rests_for_half_a_minute(
    ward: Ward, reason: MissingReason
) -> None:
    for _ in range(MISSES - 1):
        ward.note(reason)
    assert ward.health.unfit(NORTH, None) == ""
    ward.note(reason)
    assert "did not answer the last 3 questions" in ward.health.unfit(NORTH, None)
    assert list(ward.health.all_unfit(None)) == [NORTH]
    assert ward.health.unfit(SOUTH, None) == ""
    ward.now += REST_MS
    assert ward.health.unfit(NORTH, None) == ""


def test_an_answer_ends_the_count_of_misses(ward: Ward) -> None:
    for reason in ("timeout", "timeout", None, "timeout", "refused", "timeout", "timeout"):
        ward.note(reason)
    assert ward.health.unfit(NORTH, None) == ""


def test_a_broken_reply_is_no_miss(ward: Ward) -> None:
    for _ in range(MISSES):
        ward.note("integrity")
    assert ward.health.unfit(NORTH, None) == ""


def test_a_slow_silo_is_left_out_only_where_patience_is_short(ward: Ward) -> None:
    ward.note(ms=800)
    assert "usually takes 800 ms" in ward.health.unfit(NORTH, 500)
    assert ward.health.unfit(NORTH, 900) == ward.health.unfit(NORTH, None) == ""
    for _ in range(20):
        ward.note(ms=100)
    assert ward.health.unfit(NORTH, 500) == ""


def test_an_answer_of_unknown_time_changes_no_usual_time(ward: Ward) -> None:
    ward.note(ms=800)
    ward.health.note([NORTH], [], {})
    assert "800 ms" in ward.health.unfit(NORTH, 500)


def test_a_refusal_is_remembered_for_an_hour(ward: Ward) -> None:
    ward.note("refused")
    assert ward.health.refused(NORTH)
    ward.now += REFUSAL_MS
    assert not ward.health.refused(NORTH)
