"""A document as a hospital wrote it, or why an input gives none."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from siloquy.types import DocumentId

# Of a file, and of a line where files are read line by line: a corpus may be of any size.
MAX_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Document:
    """One text as a hospital wrote it.

    consent        False when its metadata says that it must not be released
    content_hash   hex SHA-256 over everything but the id; equal content gives equal hashes
    """

    id: DocumentId
    title: str
    text: str
    metadata: dict[str, str]
    consent: bool
    content_hash: str


@dataclass(frozen=True, slots=True)
class RejectedInput:
    """An input that could not be used; ``reason`` never quotes content.

    source   what the document's id would be; ``<path>#line-<n>`` for a line that is no record
    """

    source: str
    reason: str


class Unusable(Exception):
    """Why an input gives no document; never leaves this package."""


def make_document(
    name: str, title: str, text: str, metadata: dict[str, str], consent: bool
) -> Document:
    """The document of the id ``name`` with its hash, its title on one line."""
    title = " ".join(title.split())
    canonical = json.dumps([title, text, metadata, consent], ensure_ascii=False, sort_keys=True)
    content_hash = hashlib.sha256(canonical.encode()).hexdigest()
    return Document(DocumentId(name), title, text, metadata, consent, content_hash)


def in_collection(document: Document, collection: str) -> Document:
    """The same document, whose metadata says that it belongs to ``collection``."""
    metadata = {**document.metadata, "collection": collection}
    return make_document(document.id, document.title, document.text, metadata, document.consent)
