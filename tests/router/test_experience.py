"""What a gateway remembers: survives a restart, forgets the oldest, believes by deeds."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from siloquy.router import experience as module
from siloquy.router.experience import Experience, Lesson, SiloStanding
from siloquy.types import NodeId

NORTH, SOUTH = NodeId("north"), NodeId("south")


def lesson(n: int, *, audit: bool = False, missed: float | None = None) -> Lesson:
    vector = np.full(8, n / 64, dtype=np.float32)
    return Lesson(vector, ("what", f"is-{n}"), {NORTH: n, SOUTH: 0}, audit, missed)


def told(lessons: list[Lesson]) -> list[int]:
    return [item.held[NORTH] for item in lessons]


@pytest.fixture
def experience(tmp_path: Path) -> Iterator[Experience]:
    made = Experience(tmp_path / "router.sqlite")
    yield made
    made.close()


def test_all_of_it_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "router.sqlite"
    first = Experience(path)
    first.learn(lesson(3, audit=True, missed=0.25), 1000)
    first.checked({NORTH: 4}, [SOUTH], 2000)
    first.probed(NORTH, b"hash", 0.75)
    first.mark("start", 7)
    first.close()
    again = Experience(path)
    (kept,) = again.lessons(10)
    assert (kept.words, kept.held, kept.audit, kept.missed, kept.number) == (
        ("what", "is-3"),
        {NORTH: 3, SOUTH: 0},
        True,
        0.25,
        1,
    )
    assert kept.vector.dtype == np.float32
    assert kept.vector == pytest.approx(np.full(8, 3 / 64), abs=1e-3)
    assert again.standings() == {
        NORTH: SiloStanding(verified=4, profile=b"hash", probe=0.75),
        SOUTH: SiloStanding(strikes=1, struck=2000),
    }
    assert again.marked("start") == 7
    again.close()


def test_only_its_owner_reads_it(tmp_path: Path, experience: Experience) -> None:
    assert stat.S_IMODE((tmp_path / "router.sqlite").stat().st_mode) == 0o600


def test_the_newest_come_oldest_first(experience: Experience) -> None:
    for n in range(6):
        experience.learn(lesson(n, audit=n % 2 == 1), n)
    assert told(experience.lessons(3)) == [3, 4, 5]
    assert told(experience.lessons(9, audits=True)) == [1, 3, 5]
    assert told(experience.lessons(2, audits=False)) == [2, 4]
    assert told(experience.lessons(9, after=4)) == [4, 5]


def test_the_oldest_are_forgotten_audits_and_others_apart(
    experience: Experience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_QUESTIONS", 5)
    monkeypatch.setattr(module, "MOST_AUDITS", 3)
    for n in range(4):
        experience.learn(lesson(n, audit=True), n)
    for n in range(4, 40):
        experience.learn(lesson(n), n)
    assert told(experience.lessons(99, audits=True)) == [1, 2, 3]
    assert told(experience.lessons(99, audits=False)) == [35, 36, 37, 38, 39]
    assert experience.lessons(1)[0].number == 40


def test_verified_passages_and_strikes_add_up(experience: Experience) -> None:
    experience.checked({NORTH: 4}, [SOUTH], 10)
    experience.checked({NORTH: 2, SOUTH: 1}, [SOUTH], 30)
    experience.checked({}, [NORTH], 20)
    assert experience.standings() == {
        NORTH: SiloStanding(verified=6, strikes=1, struck=20),
        SOUTH: SiloStanding(verified=1, strikes=2, struck=30),
    }


def test_a_probe_speaks_of_one_profile(experience: Experience) -> None:
    experience.checked({NORTH: 4}, [], 10)
    experience.probed(NORTH, b"one", 0.2)
    experience.probed(NORTH, b"two", 1.0)
    assert experience.standings()[NORTH] == SiloStanding(4, 0, 0, b"two", 1.0)


def test_a_pardon_forgets_a_silo(experience: Experience) -> None:
    experience.checked({}, [NORTH, SOUTH], 10)
    assert experience.pardon(NORTH)
    assert not experience.pardon(NORTH)
    assert list(experience.standings()) == [SOUTH]


def test_marks_are_zero_until_made(experience: Experience) -> None:
    assert experience.marked("start") == 0
    experience.mark("start", 5)
    experience.mark("start", 9)
    assert experience.marked("start") == 9


def test_many_threads_may_learn_at_once(experience: Experience) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: experience.learn(lesson(n), n), range(60)))
        list(pool.map(lambda n: experience.checked({NORTH: 1}, [], n), range(20)))
    assert sorted(told(experience.lessons(99))) == list(range(60))
    assert experience.standings()[NORTH].verified == 20
