"""How it went with each silo lately."""

from __future__ import annotations

from siloquy.gateway.attendance import REMEMBERED, Absence, Attendance, SiloAttendance
from siloquy.types import Missing, NodeId

NORTH, SOUTH = NodeId("north"), NodeId("south")
LATE = Missing(NORTH, "timeout", "it did not answer in 9 s")


def test_who_was_never_asked_was_never_missing() -> None:
    assert Attendance().of(NORTH) == SiloAttendance(0, 0, None)


def test_questions_and_absences_are_counted_and_the_last_is_told() -> None:
    attendance = Attendance()
    attendance.note([NORTH, SOUTH], [LATE], 1000)
    attendance.note([NORTH], [Missing(NORTH, "refused", "paused by its hospital")], 2000)
    attendance.note([NORTH, SOUTH], [], 3000)
    last = Absence(2000, "refused", "paused by its hospital")
    assert attendance.of(NORTH) == SiloAttendance(3, 2, last)
    assert attendance.of(SOUTH) == SiloAttendance(2, 0, None)


def test_who_was_not_asked_is_not_counted_whatever_is_said_of_it() -> None:
    attendance = Attendance()
    attendance.note([SOUTH], [LATE], 1000)
    assert attendance.of(NORTH) == SiloAttendance()


def test_what_is_long_ago_is_forgotten() -> None:
    attendance = Attendance()
    attendance.note([NORTH], [LATE], 1000)
    for _ in range(REMEMBERED):
        attendance.note([NORTH], [], 2000)
    assert attendance.of(NORTH) == SiloAttendance(REMEMBERED, 0, None)
