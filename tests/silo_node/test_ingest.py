"""Documents in, index out; unchanged ones cost nothing and an interruption loses one batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siloquy.errors import Incompatible
from siloquy.silo_node import ingest as ingests
from siloquy.silo_node.ingest import IngestReport, ingest, remove
from siloquy.silo_node.reading.document import RejectedInput
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.store import Store
from siloquy.text.words import embedded_text
from siloquy.types import DocumentId, Term
from tests.silo_node.hospital import (
    CHUNK_TOKENS,
    WordEmbedder,
    document,
    fill,
    open_store,
    tokens,
)
from tests.siloquy.federation import ENCODER

SEPSIS = document("sepsis.md", "Take cultures first. " * 12, "Sepsis")
STROKE = document("stroke.md", "Image the head at once.", "Stroke")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "silo.sqlite")) as opened:
        yield opened


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingests, "BATCH_DOCUMENTS", 2)


def done(report: IngestReport) -> tuple[int, int, int]:
    return report.added, report.replaced, report.unchanged


def found(store: Store, word: str) -> set[str]:
    numbers, _ = store.lexical([Term(word, 1.0)])
    return set(store.found(numbers)[2])


# -- what comes in --------------------------------------------------------------------------------


def test_a_first_ingest_adds_everything(store: Store) -> None:
    report = fill(store, [SEPSIS, STROKE])
    counts = store.counts()
    assert (done(report), report.rejected) == ((2, 0, 0), ())
    assert (counts.documents, counts.passages) == (2, report.passages)
    assert report.total_s > 0


def test_a_second_ingest_of_the_same_does_nothing(store: Store) -> None:
    fill(store, [SEPSIS, STROKE])
    before, embedder = store.numbers().tolist(), WordEmbedder()
    report = fill(store, [SEPSIS, STROKE], embedder)
    assert (done(report), report.passages) == ((0, 0, 2), 0)
    assert store.numbers().tolist() == before
    assert not any(embedder.calls)


def test_a_changed_document_replaces_the_old_one(store: Store) -> None:
    fill(store, [SEPSIS, STROKE])
    report = fill(store, [SEPSIS, document("stroke.md", "Call the stroke team.", "Stroke")])
    assert (done(report), found(store, "head"), found(store, "team")) == (
        (0, 1, 1),
        set(),
        {"stroke.md"},
    )


def test_a_changed_title_is_a_change(store: Store) -> None:
    fill(store, [STROKE])
    report = fill(store, [document("stroke.md", STROKE.text, "Brain attack")])
    assert (done(report), found(store, "attack")) == ((0, 1, 0), {"stroke.md"})


def test_another_chunk_size_does_everything_again(store: Store) -> None:
    fill(store, [SEPSIS, STROKE])
    before = store.counts().passages
    report = ingest(store, [SEPSIS, STROKE], WordEmbedder(), tokens, CHUNK_TOKENS // 2)
    assert (done(report), store.counts().passages) == ((0, 2, 0), report.passages)
    assert report.passages > before


def test_documents_that_are_left_out_stay(store: Store) -> None:
    fill(store, [SEPSIS, STROKE])
    fill(store, [SEPSIS])
    assert set(store.recipe_hashes()) == {"sepsis.md", "stroke.md"}


def test_vectors_are_of_title_and_passage(store: Store) -> None:
    fill(store, [SEPSIS])
    numbers, vectors = store.vectors()
    passages = [store.passage(number) for number in numbers.tolist()]
    texts = [embedded_text("Sepsis", passage.text) for passage in passages if passage]
    assert len(texts) > 1
    assert np.array_equal(vectors, WordEmbedder().encode(texts))
    assert all(p and p.text == SEPSIS.text[p.start : p.end] for p in passages)


def test_another_encoder_may_not_add_to_the_store(store: Store) -> None:
    fill(store, [SEPSIS])
    other = WordEmbedder(replace(ENCODER, sha256="11" * 32))
    with pytest.raises(Incompatible):
        fill(store, [STROKE], other)
    assert set(store.recipe_hashes()) == {"sepsis.md"}


def test_an_empty_ingest_is_none(store: Store) -> None:
    assert replace(fill(store, []), total_s=0.0) == IngestReport()


def test_remove_tells_what_went_and_what_was_not_here(store: Store) -> None:
    passages = fill(store, [SEPSIS]).passages
    gone = remove(store, [DocumentId("sepsis.md"), DocumentId("nobody.md")])
    assert gone == {"sepsis.md": passages, "nobody.md": -1}


# -- consent --------------------------------------------------------------------------------------


def test_without_consent_a_document_has_no_passages_and_is_not_embedded(store: Store) -> None:
    embedder = WordEmbedder()
    fill(store, [document("a", "Secret words.", consent=False)], embedder)
    assert (store.counts().withdrawn, store.counts().passages) == (1, 0)
    assert (found(store, "secret"), embedder.calls) == (set(), [[]])


def test_withdrawn_consent_takes_the_passages_away(store: Store) -> None:
    fill(store, [STROKE, SEPSIS])
    report = fill(store, [replace(document("stroke.md", STROKE.text, "Stroke", consent=False))])
    assert (done(report), found(store, "head")) == ((0, 1, 0), set())
    assert found(store, "cultures") == {"sepsis.md"}


def test_consent_given_again_brings_them_back(store: Store) -> None:
    fill(store, [document("stroke.md", STROKE.text, "Stroke", consent=False)])
    fill(store, [STROKE])
    assert (found(store, "head"), store.counts().withdrawn) == ({"stroke.md"}, 0)


# -- quarantine -----------------------------------------------------------------------------------


def test_what_cannot_be_read_is_quarantined_and_the_rest_goes_on(store: Store) -> None:
    report = fill(store, [RejectedInput("scan.pdf", "PDF without text"), STROKE])
    assert (report.rejected, store.quarantined()) == (
        (RejectedInput("scan.pdf", "PDF without text"),),
        [RejectedInput("scan.pdf", "PDF without text")],
    )
    assert done(report) == (1, 0, 0)


def test_what_can_be_read_at_last_leaves_quarantine(store: Store) -> None:
    fill(store, [RejectedInput("stroke.md", "empty"), RejectedInput("scan.pdf", "damaged PDF")])
    fill(store, [STROKE])
    assert store.quarantined() == [RejectedInput("scan.pdf", "damaged PDF")]


def test_an_unchanged_document_leaves_quarantine_too(store: Store) -> None:
    fill(store, [STROKE])
    fill(store, [RejectedInput("stroke.md", "unreadable: permission denied")])
    fill(store, [STROKE])
    assert store.quarantined() == []


def test_a_rejected_file_keeps_what_was_read_of_it_before(store: Store) -> None:
    fill(store, [STROKE])
    fill(store, [RejectedInput("stroke.md", "unreadable: permission denied")])
    assert found(store, "head") == {"stroke.md"}


def test_a_mended_line_of_records_leaves_quarantine(store: Store, tmp_path: Path) -> None:
    records = tmp_path / "notes" / "records.jsonl"
    records.parent.mkdir()
    for line in ('{"_id": "1", "text": "cut sho', json.dumps({"_id": "1", "text": "whole"})):
        records.write_text(line + "\n")
        fill(store, list(read(records.parent)))
    assert found(store, "whole") == {"records.jsonl#1"}
    assert store.quarantined() == []


# -- interruptions --------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
def test_an_embedder_that_fails_midway_leaves_whole_batches(store: Store) -> None:
    documents = [document(f"{i}.md", f"Word{i} stands here.") for i in range(5)]
    with pytest.raises(InterruptedError):
        fill(store, documents, WordEmbedder(fails_at=1))
    assert set(store.recipe_hashes()) == {"0.md", "1.md"}
    embedder = WordEmbedder()
    report = fill(store, documents, embedder)
    assert (done(report), store.counts().documents) == ((3, 0, 2), 5)
    assert sum(map(len, embedder.calls)) == 3


@pytest.mark.usefixtures("small_batches")
def test_progress_is_told_after_each_batch(store: Store) -> None:
    told: list[IngestReport] = []
    documents = [document(f"{i}.md", f"Word{i} stands here.") for i in range(5)]
    final = ingest(store, iter(documents), WordEmbedder(), tokens, CHUNK_TOKENS, told.append)
    assert [report.added for report in told] == [2, 4, 5]
    assert told[-1] == final


@pytest.mark.usefixtures("small_batches")
def test_an_id_that_comes_twice_is_replaced_not_added_again(store: Store) -> None:
    documents = [document("a", "First version."), STROKE, document("a", "Second version.")]
    report = fill(store, documents)
    assert (done(report), found(store, "second")) == ((2, 1, 0), {"a"})
