"""Disks that are full or read-only: told by name, books unharmed, all well once there is room."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.codec import decode
from siloquy.database import connect
from siloquy.errors import StorageFailed
from siloquy.settings import AskSettings
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.text.embed import CachedEmbedder
from siloquy.trust import ledger
from siloquy.types import SearchReply
from tests.end_to_end.processes import run
from tests.end_to_end.town import NORTH, SILOS, Town
from tests.faults import disk, library
from tests.faults.clinic import Clinic, save_people
from tests.faults.conftest import Change
from tests.faults.stage import Stage
from tests.silo_node.hospital import CHUNK_TOKENS, WordEmbedder, tokens

pytestmark = pytest.mark.end_to_end

STORAGE = 9
# The second is what SQLite says where it cannot make its index of the write-ahead log longer.
FULL = "cannot be used: (database or disk is full|disk I/O error)"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 8 MB."""
    with disk.small_disk(tmp_path / "small", "8m") as mounted:
        disk.need(mounted)
        yield tmp_path / "small"


async def asked_until_refused(clinic: Clinic) -> str:
    """What the silo says once the disk takes nothing more; its books are checked all the way.

    What a write-ahead log has taken room for before can still be written on a full disk.
    """
    for _ in range(2000):
        before = clinic.spent(), clinic.entered()
        try:
            await clinic.ask()
        except (StorageFailed, AssertionError) as error:
            assert (clinic.spent(), clinic.entered()) == before
            assert len(clinic.left()) == clinic.spent()
            return str(error)
        assert len(clinic.left()) == clinic.spent() == len(clinic.entered())
    raise AssertionError("the disk takes everything")


async def refusal(clinic: Clinic) -> tuple[str, str]:
    """Reason and words of a silo that cannot note that it was asked."""
    reply = decode(SearchReply, (await clinic.hospital.node.search(clinic.question())).body)
    assert reply.refusal is not None
    assert reply.hits == ()
    return reply.refusal.reason, reply.refusal.detail


# -- silos ----------------------------------------------------------------------------------------


async def test_a_silo_on_a_full_disk_lets_nothing_out_and_goes_on_when_there_is_room(
    small: Path, tmp_path: Path
) -> None:
    save_people(tmp_path)
    shutil.copytree(tmp_path / "people", small / "people")
    clinic = Clinic(small, notes=tmp_path)
    await clinic.ask()
    disk.fill(small)
    assert re.search(FULL, await asked_until_refused(clinic))
    spent = clinic.spent()
    disk.make_room(small)
    await clinic.ask()
    assert clinic.spent() == len(clinic.entered()) == len(clinic.left()) > spent
    clinic.store.close()


async def test_a_silo_whose_disk_has_become_read_only_refuses_by_name(tmp_path: Path) -> None:
    save_people(tmp_path)
    clinic = Clinic(tmp_path)
    await clinic.ask()
    before = clinic.spent(), clinic.entered()
    clinic.store.connection.execute("PRAGMA query_only = ON")
    assert await refusal(clinic) == (
        "failed",
        "silo.sqlite cannot be used: attempt to write a readonly database",
    )
    assert (clinic.spent(), clinic.entered()) == before
    clinic.store.connection.execute("PRAGMA query_only = OFF")
    await clinic.ask()
    clinic.store.close()


def test_a_silo_that_may_write_no_longer_files_lets_nothing_out_and_goes_on_later(
    tmp_path: Path, actors: Stage
) -> None:
    """As a full disk, for everybody who may not mount one."""
    save_people(tmp_path)
    Clinic(tmp_path).store.close()
    assert actors.run("cramped", tmp_path) == 0
    clinic = Clinic(tmp_path)
    assert clinic.spent() == len(clinic.entered()) == len(clinic.left()) > 0
    told = (tmp_path / "told").read_text()
    assert told.startswith("silo.sqlite cannot be used: ")
    clinic.store.close()


def test_an_ingest_on_a_full_disk_is_told_and_goes_on_when_there_is_room(
    change: Change, small: Path
) -> None:
    shutil.copy(change.fresh() / "silo.sqlite", small)
    disk.fill(small)
    with pytest.raises(StorageFailed, match=FULL), closing(library.opened(small)) as store:
        ingest(store, read(change.source), WordEmbedder(), tokens, CHUNK_TOKENS)
    disk.make_room(small)
    assert library.shelf(small) == change.before
    with closing(library.opened(small)) as store:
        ingest(store, read(change.source), WordEmbedder(), tokens, CHUNK_TOKENS)
    assert library.shelf(small) == change.after


def test_an_embedding_cache_without_room_is_named(small: Path) -> None:
    embedder = CachedEmbedder(WordEmbedder(), small / "embeddings.sqlite")
    disk.fill(small)
    with pytest.raises(StorageFailed, match=f"^embeddings.sqlite {FULL}"):
        embedder.encode([f"text {n}" for n in range(300)])
    disk.make_room(small)
    assert len(embedder.encode(["text 1", "text 2"])) == 2


# -- commands -------------------------------------------------------------------------------------


def test_commands_on_a_read_only_disk_name_the_file_and_what_to_do(
    small: Path, tmp_path: Path
) -> None:
    folder = small / "valley"
    made = run("silo", "init", "--name", "valley", "-f", folder, "--organisation", "Valley")
    assert made.code == 0
    assert run("silo", "status", "-f", folder).code == 0
    (folder / "serving.lock").touch()
    disk.make_read_only(small)
    (tmp_path / "documents").mkdir()
    for name, arguments in {
        "silo.sqlite": ("silo", "status", "-f", folder),
        "silo.sqlite ": ("silo", "ingest", tmp_path / "documents", "-f", folder),
        "silo.sqlite  ": ("silo", "delete", "a.md", "-f", folder),
        "other": ("silo", "init", "--name", "o", "-f", small / "other", "--organisation", "O"),
    }.items():
        ran = run(*arguments)
        assert (ran.code, ran.error["code"]) == (STORAGE, "storage")
        assert ran.error["message"].startswith(f"{name.strip()} cannot be ")
        assert str(small) in ran.error["hint"]


# -- the whole federation -------------------------------------------------------------------------


async def test_a_federation_on_a_full_disk_says_so_for_every_silo_and_recovers(
    small: Path,
) -> None:
    made = Town(small / "town", AskSettings(deadline_s=10.0))
    await made.start()
    await made.ask_as_usual()
    disk.fill(small)
    books = made.disclosed()
    for _ in range(300):
        answer = await made.ask()
        if {(item.silo, item.reason) for item in answer.missing} == {(s, "failed") for s in SILOS}:
            break
        books = made.disclosed()
    else:
        raise AssertionError("the disk takes everything")
    assert re.match(f"silo.sqlite {FULL}", answer.missing[0].detail)
    assert made.disclosed() == books
    assert all(entered == spent for entered, spent in _sums(made))
    disk.make_room(small)
    await made.reconnect(NORTH)
    await made.ask_as_usual()
    await made.stop()


def _sums(town: Town) -> Iterator[tuple[int, int]]:
    for silo in SILOS:
        connection = connect(town.folder / silo / "silo.sqlite", "")
        entered = sum(len(entry.passages) for entry in ledger.entries(connection))
        (spent,) = connection.execute("SELECT coalesce(sum(passages), 0) FROM spent").fetchone()
        connection.close()
        yield entered, spent
