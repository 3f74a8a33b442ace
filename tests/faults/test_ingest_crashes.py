"""An ingest that is killed: what it acknowledged is kept, what it did not is not half there."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.settings import EncoderSettings, IndexSettings
from siloquy.silo_node.chunk import load_tokens
from siloquy.silo_node.ingest import ingest
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.search import Searcher
from siloquy.silo_node.store import Store
from siloquy.text import topics
from siloquy.text.embed import CachedEmbedder, encoder_spec, model_folder
from tests.end_to_end.processes import run
from tests.faults import library
from tests.faults.conftest import Change
from tests.faults.deeds import BATCH
from tests.faults.stage import KILLED, Stage
from tests.silo_node.hospital import WordEmbedder
from tests.siloquy.federation import ENCODER

pytestmark = pytest.mark.end_to_end

KILLS = 20
PLACES = (
    "batch-embedded",
    "document-stored",
    "batch-stored",
    "batch-done",
    "rejections-noted",
    "before-settling",
    "embeddings-kept",
)
PASSAGES = {"document-stored": (1, 7, 40), "batch-stored": (2, 4), "batch-done": (1, 3)}
CRASHES = [f"{place}:{n}" for place in PLACES for n in PASSAGES.get(place, (1,))]


def acknowledged(folder: Path) -> int:
    """How many inputs the killed process has said that it is done with."""
    path = folder / "acknowledged"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(map(int, lines[-1].split())) if lines else 0


def check_interrupted(folder: Path, change: Change) -> None:
    """Every document is whole, of one edition; whole batches are done, as many as were told."""
    found = library.shelf(folder)
    old, new = change.before.documents, change.after.documents
    halves = [
        name for name, own in found.documents.items() if own not in (old.get(name), new.get(name))
    ]
    assert halves == []
    assert old.keys() <= found.documents.keys() <= new.keys()
    in_order = sorted(path.name for path in change.source.glob("leaf-*"))
    told = in_order[: acknowledged(folder)]
    assert [name for name in told if found.documents[name] != new[name]] == []


def check_resumed(folder: Path, change: Change, actors: Stage) -> None:
    """Ingesting again finishes, and the store is what it is without a fault."""
    assert actors.run("ingest", folder, change.source) == 0
    assert library.shelf(folder) == change.after


def test_the_two_editions_differ_enough_to_tell_a_half_change(change: Change) -> None:
    old, new = change.before, change.after
    changed = [name for name, own in new.documents.items() if own != old.documents.get(name)]
    assert len(new.documents) > 6 * BATCH
    assert len(changed) > 3 * BATCH
    assert old.rankings != new.rankings
    assert len(old.quarantined) > len(new.quarantined) > 0


@pytest.mark.parametrize("place", CRASHES)
def test_an_ingest_that_dies_at_a_place_leaves_whole_documents_and_can_be_resumed(
    place: str, change: Change, actors: Stage
) -> None:
    folder = change.fresh()
    assert actors.run("ingest", folder, change.source, crash_at=place) == KILLED
    check_interrupted(folder, change)
    check_resumed(folder, change, actors)


def moments() -> Iterator[float]:
    """When to kill, seeded: parts of the time that an ingest takes."""
    rng = random.Random(20)  # noqa: S311 - repeatable
    while True:
        yield rng.uniform(0.05, 0.98)


@pytest.mark.slow
def test_an_ingest_killed_at_random_leaves_whole_documents_and_can_be_resumed(
    change: Change, actors: Stage
) -> None:
    """Every third one is killed a second time while it resumes."""
    kills = 0
    for after in moments():
        folder = change.fresh()
        for _ in range(1 + (kills % 3 == 0)):
            deed = actors.start("ingest", folder, change.source)
            time.sleep(after * change.takes_s)
            deed.kill()
            kills += deed.end() == KILLED
            check_interrupted(folder, change)
        check_resumed(folder, change, actors)
        if kills >= KILLS:
            return


@pytest.mark.slow
def test_the_command_killed_at_random_can_be_given_again(
    change: Change, actors: Stage, tmp_path: Path
) -> None:
    """``siloquy silo ingest`` itself; its vectors lie in the cache, so that it loads no model."""
    folder = tmp_path / "valley"
    made = run("silo", "init", "--name", "valley", "-f", folder, "--organisation", "Valley")
    assert made.code == 0
    known = CachedEmbedder(
        WordEmbedder(encoder_spec(EncoderSettings())), folder / "embeddings.sqlite"
    )
    known.encode(topics.names())
    pieces = load_tokens(model_folder(EncoderSettings()) / "tokenizer.json")
    with closing(Store(tmp_path / "whole.sqlite")) as store:
        ingest(store, read(change.source), known, pieces, IndexSettings().chunk_tokens)
        whole = dict(library.documents(store.connection))
    arguments = ("silo", "ingest", change.source, "--folder", folder)
    start, kills = time.monotonic(), 0
    assert actors.run("command", *arguments) == 0
    takes_s = time.monotonic() - start
    for after in moments():
        for path in folder.glob("silo.sqlite*"):
            path.unlink()
        deed = actors.start("command", *arguments)
        time.sleep(after * takes_s)
        deed.kill()
        kills += deed.end() == KILLED
        assert library.shelf(folder).documents.items() <= whole.items()
        if kills == 5:
            break
    assert actors.run("command", *arguments) == 0
    assert library.shelf(folder).documents == whole


def test_a_silo_that_serves_meanwhile_finds_only_whole_documents(
    change: Change, actors: Stage
) -> None:
    """Its ranking is checked against each passage's own vector, in ``library.ranking``."""
    folder = change.fresh()
    known = {*change.before.documents.items(), *change.after.documents.items()}
    seen: set[tuple[str, str]] = set()
    with closing(library.opened(folder)) as store, ThreadPoolExecutor(1) as pool:
        searcher = Searcher(store, ENCODER.dimension)
        for place in ("document-stored:9", "batch-stored:2", "document-stored:20", ""):
            dying = pool.submit(actors.run, "ingest", folder, change.source, crash_at=place)
            while not dying.done():
                for question in library.QUESTIONS:
                    assert library.ranking(store, searcher, question)
                with store.snapshot():
                    seen.update(library.documents(store.connection))
            assert dying.result() == (KILLED if place else 0)
        assert seen <= known
        after = {q: library.ranking(store, searcher, q) for q in library.QUESTIONS}
        assert after == change.after.rankings


@pytest.mark.parametrize("place", ["document-dropped"])
def test_a_deletion_that_dies_deletes_nothing_and_can_be_done_again(
    place: str, change: Change, actors: Stage
) -> None:
    folder = change.fresh()
    assert actors.run("delete", folder, "leaf-001.md", crash_at=place) == KILLED
    assert library.shelf(folder) == change.before
    assert actors.run("delete", folder, "leaf-001.md") == 0
    assert "leaf-001.md" not in library.shelf(folder).documents
