"""What a gateway's router has learnt, read from its file while the router has it open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from siloquy.errors import StorageFailed
from siloquy.router import account
from siloquy.router.account import SiloReport
from siloquy.router.experience import CALIBRATED_FROM, Experience, Lesson
from siloquy.settings import AskSettings
from siloquy.types import NodeId

NOW = 1_700_000_000_000
NORTH, SOUTH, EAST = NodeId("north"), NodeId("south"), NodeId("east")
SETTINGS = AskSettings()


@pytest.fixture
def experience(tmp_path: Path) -> Iterator[Experience]:
    opened = Experience(tmp_path / "router.sqlite")
    yield opened
    opened.close()


def audited(experience: Experience, n: int, *, audit: bool = True) -> None:
    lesson = Lesson(np.zeros(4, np.float32), ("dose",), {NORTH: 1}, audit)
    for _ in range(n):
        experience.learn(lesson, NOW)


def read(tmp_path: Path, settings: AskSettings = SETTINGS) -> account.RouterReport:
    return account.read(tmp_path / "router.sqlite", settings, NOW)


def test_too_few_audits_promise_nothing(tmp_path: Path, experience: Experience) -> None:
    audited(experience, 57)
    audited(experience, 5, audit=False)
    found = read(tmp_path)
    assert (found.questions, found.audits, found.needed, found.broken) == (62, 57, 200, False)
    assert found.promised == {"precise": None, "diverse": None, "fast": None}


def test_enough_audits_promise_what_the_settings_want(
    tmp_path: Path, experience: Experience
) -> None:
    audited(experience, 200)
    assert read(tmp_path).promised == {"precise": 0.95, "diverse": 0.95, "fast": 0.8}
    strict = AskSettings(coverage=0.999)
    assert read(tmp_path, strict).promised == {"precise": None, "diverse": None, "fast": 0.8}


def test_after_a_broken_promise_only_new_audits_count(
    tmp_path: Path, experience: Experience
) -> None:
    audited(experience, 210)
    experience.mark(CALIBRATED_FROM, 205)
    found = read(tmp_path)
    assert (found.audits, found.broken, found.promised["precise"]) == (5, True, None)
    audited(experience, 200)
    assert not read(tmp_path).broken


def test_every_silo_that_was_checked_is_told(tmp_path: Path, experience: Experience) -> None:
    experience.checked({NORTH: 25, SOUTH: 2}, [], NOW)
    for _ in range(2):
        experience.checked({}, [EAST], NOW)
    experience.probed(SOUTH, b"hash", 0.5)
    assert read(tmp_path).silos == (
        SiloReport(EAST, 0, 2, NOW, False, 1, None),
        SiloReport(NORTH, 25, 0, None, True, 10, None),
        SiloReport(SOUTH, 2, 0, None, True, 5, 0.5),
    )


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"router\.sqlite"):
        read(tmp_path)
