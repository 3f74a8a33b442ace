"""Documents in, index out: read, skip what is unchanged, cut, embed in batches, store.

Each batch is stored in one transaction, so an interrupted ingest keeps what it did and the next
run does only the rest.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from siloquy import crash
from siloquy.ports import Embedder
from siloquy.silo_node.chunk import Tokens, passages
from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.store import IndexedDocument, Store
from siloquy.text.words import embedded_text
from siloquy.types import DocumentId

BATCH_DOCUMENTS = 512
_RECIPE = "sentences-1"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest did.

    embedded    passages that the cache did not hold
    profile     what became of the silo's noised profile: made, kept, or spent
    encoder_s   time in the encoder itself, part of ``total_s``
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    passages: int = 0
    rejected: tuple[RejectedInput, ...] = ()
    embedded: int = 0
    encoder_s: float = 0.0
    total_s: float = 0.0
    profile: str = ""


IngestListener = Callable[[IngestReport], None]


def ingest(
    store: Store,
    inputs: Iterable[Document | RejectedInput],
    embedder: Embedder,
    tokens: Tokens,
    chunk_tokens: int,
    told: IngestListener = lambda report: None,
) -> IngestReport:
    """Bring the store up to date with ``inputs``; ``told`` hears of the progress."""
    start = perf_counter()
    store.bind(embedder.spec)
    known = store.recipe_hashes()
    report, files = IngestReport(), set[str]()
    for batch in _batches(inputs):
        rejected = [item for item in batch if isinstance(item, RejectedInput)]
        documents = [item for item in batch if isinstance(item, Document)]
        changed = [item for item in documents if known.get(item.id) != _hash(item, chunk_tokens)]
        indexed = _index(changed, embedder, tokens, chunk_tokens)
        crash.point("batch-embedded")
        if indexed:
            store.put(indexed)
            crash.point("batch-stored")
        if rejected:
            store.quarantine(rejected)
        crash.point("batch-done")
        files.update(item.id.partition("#")[0] for item in documents)
        report = replace(
            report,
            added=report.added + sum(item.id not in known for item in changed),
            replaced=report.replaced + sum(item.id in known for item in changed),
            unchanged=report.unchanged + len(documents) - len(changed),
            passages=report.passages + sum(len(item.spans) for item in indexed),
            rejected=(*report.rejected, *rejected),
            total_s=perf_counter() - start,
        )
        known.update((item.document.id, item.recipe_hash) for item in indexed)
        told(report)
    crash.point("before-settling")
    store.settle_quarantine(frozenset(files), frozenset(r.source for r in report.rejected))
    return report


def _batches(
    inputs: Iterable[Document | RejectedInput],
) -> Iterator[list[Document | RejectedInput]]:
    iterator = iter(inputs)
    while batch := list(itertools.islice(iterator, BATCH_DOCUMENTS)):
        yield batch


def _hash(document: Document, chunk_tokens: int) -> str:
    """What the passages of a document depend on: its content and how it is cut."""
    recipe = f"{_RECIPE}/{chunk_tokens}/{document.content_hash}"
    return hashlib.sha256(recipe.encode()).hexdigest()


def _index(
    documents: Sequence[Document], embedder: Embedder, tokens: Tokens, chunk_tokens: int
) -> list[IndexedDocument]:
    """Documents cut and embedded; one whose consent is withdrawn gets no passages at all."""
    spans = passages(documents, tokens, chunk_tokens) if documents else []
    spans = [
        found if document.consent else [] for document, found in zip(documents, spans, strict=True)
    ]
    texts = [
        embedded_text(document.title, document.text[span.start : span.end])
        for document, found in zip(documents, spans, strict=True)
        for span in found
    ]
    vectors = embedder.encode(texts)
    ends = np.cumsum([len(found) for found in spans], dtype=np.int64)
    parts = np.split(vectors, ends[:-1]) if documents else []
    return [
        IndexedDocument(document, tuple(found), part, _hash(document, chunk_tokens))
        for document, found, part in zip(documents, spans, parts, strict=True)
    ]


def remove(store: Store, documents: Iterable[DocumentId]) -> dict[DocumentId, int]:
    """Passages deleted with each document; -1 for one that was not here."""
    return {document: store.delete(document) for document in documents}
