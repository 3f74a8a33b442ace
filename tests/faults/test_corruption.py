"""A silo whose file changes under it, bit by bit: no passage leaves that was not stored so."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.errors import StorageFailed
from tests.end_to_end.processes import run
from tests.faults.clinic import DOCUMENTS, Clinic, save_people
from tests.silo_node.hospital import fill, open_store

FLIPS = 200
STORE = "silo.sqlite"
TEXTS = {document.id: (document.title, document.text) for document in DOCUMENTS}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A silo's folder that has answered a question; its database is one file."""
    folder = tmp_path_factory.mktemp("sound")
    save_people(folder)
    clinic = Clinic(folder)
    clinic.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    clinic.store.close()
    return folder


def flipped(sound: Path, folder: Path, place: int, bit: int) -> Path:
    """A copy of the silo with one bit of its database the other way."""
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    data = bytearray((folder / STORE).read_bytes())
    data[place] ^= 1 << bit
    (folder / STORE).write_bytes(data)
    return folder


async def served(folder: Path) -> str:
    """``told`` when the silo says that something is wrong, ``right`` for passages as stored."""
    try:
        clinic = Clinic(folder)
    except Exception:  # noqa: BLE001 - a damaged file may break in any way, but not silently
        return "told"
    with closing(clinic.store):
        try:
            reply = await clinic.ask()
        except (Exception, AssertionError):  # noqa: BLE001 - as above
            return "told"
        for passage in reply.passages:
            title, text = TEXTS[passage.document]
            assert (passage.title, passage.text) == (title, text[passage.start : passage.end])
    return "right" if len(reply.passages) == 3 else "fewer"


@pytest.mark.parametrize("flips", [40, pytest.param(FLIPS, marks=pytest.mark.slow)])
async def test_a_flipped_bit_is_told_or_harmless_wherever_it_is(
    flips: int, sound: Path, tmp_path: Path
) -> None:
    size = (sound / STORE).stat().st_size
    rng = random.Random(11)  # noqa: S311 - repeatable
    found: Counter[str] = Counter()
    for _ in range(flips):
        folder = flipped(sound, tmp_path / "silo", rng.randrange(size), rng.randrange(8))
        found[await served(folder)] += 1
        shutil.rmtree(folder)
    assert found["right"] > flips / 4
    assert found["told"] > 0


@pytest.mark.parametrize("word", [b"oxygen to ward 3", b"Leaf 3", b"leaf-3.md"])
async def test_a_flipped_bit_in_a_passage_s_words_is_told_and_nothing_is_charged(
    word: bytes, sound: Path, tmp_path: Path
) -> None:
    data = (sound / STORE).read_bytes()
    places = [place for place in range(len(data)) if data.startswith(word, place)]
    assert places
    for place in places:
        folder = flipped(sound, tmp_path / str(place), place + 1, 1)
        assert await served(folder) in ("right", "fewer", "told")


async def test_a_passage_that_is_not_as_stored_is_refused_by_name_and_nothing_is_charged(
    sound: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "silo"))
    clinic = Clinic(folder)
    clinic.store.connection.execute("UPDATE documents SET text = replace(text, 'oxygen', 'no')")
    with pytest.raises(StorageFailed, match="a passage is not as it was stored") as told:
        await clinic.ask()
    assert (clinic.spent(), clinic.entered(), clinic.left()) == (0, [], [])
    assert told.value.missing == "failed"
    clinic.store.close()


def test_a_store_of_before_the_hashes_is_served_as_it_is(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / STORE)) as store:
        fill(store, DOCUMENTS)
        store.connection.execute("DROP TABLE passage_hashes")
        number = int(store.numbers()[0])
    with closing(open_store(tmp_path / STORE)) as store:
        passage = store.passage(number)
        assert passage is not None
        assert passage.text == TEXTS[passage.document][1][passage.start : passage.end]


def test_verify_says_that_a_changed_passage_or_budget_is_damage(
    sound: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "silo"))
    people = folder / "people" / "north"
    for path in people.iterdir():
        shutil.copy(path, folder)
    assert run("silo", "verify", "-f", folder).code == 0
    for change in (
        "UPDATE documents SET title = 'Leaf' WHERE id = 'leaf-3.md'",
        "INSERT INTO spent VALUES ('ward', '2026-01-01', 2)",
    ):
        other = Path(shutil.copytree(folder, tmp_path / str(len(change))))
        with closing(open_store(other / STORE)) as store:
            store.connection.execute(change)
        ran = run("silo", "verify", "-f", other)
        assert (ran.code, ran.error["code"]) == (6, "integrity")
