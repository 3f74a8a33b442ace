"""Where processes die: one stage for all tests, and the two states of a store between editions."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import library, stage
from tests.faults.library import Shelf
from tests.faults.stage import Stage


@pytest.fixture(scope="session")
def actors() -> Iterator[Stage]:
    """Runs deeds in processes that may die."""
    with stage.opened() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Change:
    """A silo that holds the first edition and is to ingest the second.

    before, after   the store without any fault
    takes_s         how long it took
    fresh           a new folder in which the change has not begun
    """

    source: Path
    before: Shelf
    after: Shelf
    takes_s: float
    fresh: Callable[[], Path]


@pytest.fixture(scope="session")
def change(actors: Stage, tmp_path_factory: pytest.TempPathFactory) -> Change:
    """The change from the first to the second edition, done once without a fault."""
    place = tmp_path_factory.mktemp("library")
    first, second = (library.write(place / f"edition-{n}", n) for n in (1, 2))
    old = place / "old"
    old.mkdir()
    assert actors.run("ingest", old, first) == 0
    before = library.shelf(old)
    (old / "acknowledged").unlink()

    def fresh() -> Path:
        made = tmp_path_factory.mktemp("silo")
        return Path(shutil.copytree(old, made, dirs_exist_ok=True))

    new = fresh()
    start = time.monotonic()
    assert actors.run("ingest", new, second) == 0
    return Change(second, before, library.shelf(new), time.monotonic() - start, fresh)
