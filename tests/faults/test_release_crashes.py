"""A silo that dies while it releases: its books never say less than what has left."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from siloquy.codec import decode
from siloquy.errors import SiloquyError
from siloquy.trust import ledger
from siloquy.trust import roster as rosters
from siloquy.trust.identity import REPLY_CONTEXT
from siloquy.types import SearchReply
from tests.end_to_end.processes import until
from tests.faults.clinic import Clinic, K, save_people
from tests.faults.stage import KILLED, Stage

pytestmark = pytest.mark.end_to_end

KILLS = 20
BEFORE = ("question-noted", "question-seen", "release-begun", "release-charged")
CHARGED = ("release-committed",)
PLACES = (*BEFORE, *CHARGED)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silo's folder that has answered two questions."""
    folder = tmp_path_factory.mktemp("clinic")
    save_people(folder)
    clinic = Clinic(folder)
    clinic.store.close()
    return folder


@pytest.fixture
def fresh(founded: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a folder of a silo that nobody has asked yet."""

    def made() -> Path:
        return Path(shutil.copytree(founded, tmp_path_factory.mktemp("silo"), dirs_exist_ok=True))

    return made


def more_asked(folder: Path, than: int) -> bool:
    """Whether the silo has been asked more than so many questions."""
    return len(list(folder.glob("*.search"))) > than


def check_books(clinic: Clinic) -> None:
    """Ledger and budget agree, hold all that left, and at most one release more than that."""
    left, entered = Counter(clinic.left()), Counter(clinic.entered())
    assert left <= entered
    assert clinic.spent() == entered.total()
    assert entered.total() - left.total() in (0, K)


async def check_nothing_more_leaves(clinic: Clinic) -> None:
    """What was sent before the restart is refused when it is played back after it."""
    spent, entries = clinic.spent(), ledger.head(clinic.store.connection)
    noted = {row[0] for row in clinic.store.connection.execute("SELECT query FROM seen")}
    for asked in clinic.asked():
        if asked.release:
            with pytest.raises(SiloquyError, match="no such open question here"):
                await clinic.hospital.node.release(asked.release)
        signed = await clinic.hospital.node.search(asked.search)
        body = rosters.open_signed(clinic.federation.roster, signed, REPLY_CONTEXT, "silo")
        reply = decode(SearchReply, body)
        if reply.query_id in noted:
            assert reply.refusal is not None
            assert "a replay" in reply.refusal.detail
            assert reply.hits == ()
    assert (clinic.spent(), ledger.head(clinic.store.connection)) == (spent, entries)


async def check_it_goes_on(clinic: Clinic) -> None:
    """A new question is answered and entered."""
    before = clinic.spent()
    reply = await clinic.ask()
    assert len(reply.passages) == K
    assert clinic.spent() == before + K == len(clinic.entered())


@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize("place", PLACES)
async def test_a_silo_that_dies_at_a_place_has_entered_and_charged_all_that_left(
    place: str, nth: int, fresh: Callable[[], Path], actors: Stage
) -> None:
    folder = fresh()
    assert actors.run("questions", folder, 6, crash_at=f"{place}:{nth}") == KILLED
    clinic = Clinic(folder)
    check_books(clinic)
    left = len(clinic.left())
    assert left == K * (nth - 1)
    assert clinic.spent() == left + (K if place in CHARGED else 0)
    await check_nothing_more_leaves(clinic)
    await check_it_goes_on(clinic)
    clinic.store.close()


@pytest.mark.slow
def test_a_silo_killed_at_random_has_entered_and_charged_all_that_left(
    fresh: Callable[[], Path], actors: Stage
) -> None:
    """One folder through all kills: books and memory of questions pile up."""
    folder = fresh()
    rng = random.Random(7)  # noqa: S311 - repeatable
    entered: list[str] = []
    for _ in range(KILLS):
        deed = actors.start("questions", folder, 10_000)
        until(partial(more_asked, folder, len(list(folder.glob("*.search")))), "nobody asks")
        time.sleep(rng.uniform(0.0, 0.1))
        deed.kill()
        assert deed.end() == KILLED
        clinic = Clinic(folder)
        now = clinic.entered()
        assert now[: len(entered)] == entered
        assert clinic.spent() == len(now)
        assert Counter(clinic.left()) <= Counter(now)
        entered = now
        clinic.store.close()
    assert entered
    clinic = Clinic(folder)
    asyncio.run(check_nothing_more_leaves(clinic))
    clinic.store.close()


def test_a_profile_that_died_after_it_was_paid_for_costs_budget_and_tells_nothing(
    fresh: Callable[[], Path], actors: Stage
) -> None:
    folder = fresh()
    assert actors.run("noised_profile", folder, crash_at="profile-charged") == KILLED
    assert not (folder / "profile").exists()
    clinic = Clinic(folder)
    assert kept_and_charged(clinic) == (0, 1)
    for _ in range(2):
        assert actors.run("noised_profile", folder) == 0
        assert kept_and_charged(clinic) == (1, 2)
    clinic.store.close()


def kept_and_charged(clinic: Clinic) -> tuple[int, int]:
    """Noised profiles that are there, and those paid for."""
    row = clinic.store.connection.execute(
        "SELECT (SELECT count(*) FROM profile_contents), (SELECT count(*) FROM profile_releases)"
    ).fetchone()
    return int(row[0]), int(row[1])


def test_a_profile_number_is_never_used_twice(fresh: Callable[[], Path], actors: Stage) -> None:
    folder = fresh()
    assert actors.run("profile", folder, crash_at="profile-numbered") == KILLED
    assert not (folder / "profile").exists()
    assert actors.run("profile", folder) == 0
    clinic = Clinic(folder)
    assert clinic.store.fact("profile version") == "2"
    clinic.store.close()
