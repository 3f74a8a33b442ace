"""Documents out of files.

A hospital's folder is never tidy, so one bad file or record never stops the walk: it becomes a
Rejected with a reason that a person can act on. Encodings are not guessed: a wrong guess turns a
dose or a name into another one without a sound.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pypdfium2 as pdfium
from selectolax.lexbor import LexborHTMLParser

from siloquy.text.words import clean
from siloquy.types import DocumentId

# Of a file, and of a line where files are read line by line: a corpus may be of any size.
MAX_BYTES = 50_000_000
TITLE_CHARACTERS = 120

_HEADING = re.compile(r"^#[ \t]+(\S.*)\n?", re.MULTILINE)
_FIRST_LINE = re.compile(r"\s*(\S.*)\n?")

_NOISE = ["script", "style", "nav", "header", "footer", "noscript", "template"]
_BLOCKS = (
    "address, article, aside, blockquote, caption, dd, details, div, dl, dt, fieldset, figcaption, "
    "figure, form, h1, h2, h3, h4, h5, h6, hr, li, main, ol, p, pre, section, summary, table, tr, "
    "ul"
)
_SECTIONS = "h1, h2, h3, h4, h5, h6"
_CELL = ":is(td, th) + :is(td, th)"
# Control characters that no cleaned page holds and that are no white space to str.split.
_BLOCK_BREAK, _LINE_BREAK = "\x02", "\x03"
# What PDFium puts where it joins a word that a line end had split.
_PDF_HYPHEN = re.compile("[\x02\ufffe]")


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


class _Unusable(Exception):
    """Why an input gives no document; never leaves this module."""


def read(
    path: Path, only_source: str | None = None, collection: str = ""
) -> Iterator[Document | RejectedInput]:
    """Each document of a folder, file or BEIR folder in sorted order, or why there is none.

    Ids are unique: files have their POSIX path in the folder, records of a .jsonl in it
    ``<path>#<_id>``. A .jsonl given by itself or as a BEIR corpus keeps its ``_id`` as it is.
    A record without ``_id`` is called ``line-<n>``.

    only_source   keep only records whose field ``source`` equals it; files are not concerned
    collection    what the documents are said to belong to; empty: what their metadata says
    """
    seen: set[DocumentId] = set()
    for item in _items(path, only_source):
        if isinstance(item, RejectedInput):
            yield item
        elif item.id in seen:
            yield RejectedInput(item.id, "the same id twice")
        else:
            seen.add(item.id)
            yield _in_collection(item, collection) if collection else item


def _in_collection(item: Document, collection: str) -> Document:
    metadata = {**item.metadata, "collection": collection}
    return _document(item.id, item.title, item.text, metadata, item.consent)


# -- which files ----------------------------------------------------------------------------------


def _items(path: Path, only_source: str | None) -> Iterator[Document | RejectedInput]:
    if not os.path.isdir(path):
        yield from _file(path, _name(path, path.parent), "", only_source)
        return
    corpus = _corpus(path)
    for item in _checked([corpus], path) if corpus else _walk(path, path):
        if isinstance(item, RejectedInput):
            yield item
        else:
            name = _name(item, path)
            yield from _file(item, name, "" if corpus else f"{name}#", only_source)


def _corpus(folder: Path) -> Path | None:
    candidates = (folder / "corpus.jsonl", folder / "corpus.jsonl.gz")
    return next((path for path in candidates if os.path.isfile(path)), None)


def _walk(folder: Path, root: Path) -> Iterator[Path | RejectedInput]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield RejectedInput(_name(folder, root), _unreadable(error))
    else:
        yield from _checked(paths, root)


def _checked(paths: Sequence[Path], root: Path) -> Iterator[Path | RejectedInput]:
    for path in paths:
        if path.name.startswith(".") or path == root / "README.md":
            continue
        if path.is_symlink() and (reason := _stray(path, root)):
            yield RejectedInput(_name(path, root), reason)
        elif os.path.isdir(path):
            yield from _walk(path, root)
        else:
            yield path


def _stray(link: Path, root: Path) -> str:
    """Why ``link`` is not followed; empty when it is a file inside ``root``."""
    # os.path.realpath, since Path.resolve raises on a loop of links.
    if not Path(os.path.realpath(link)).is_relative_to(os.path.realpath(root)):
        return "symlink out of the folder"
    return "symlink to a folder" if os.path.isdir(link) else ""


def _name(path: Path, root: Path) -> str:
    """POSIX path in ``root``; bytes that are no UTF-8 become U+FFFD, an id has to be Unicode."""
    return os.fsencode(path.relative_to(root).as_posix()).decode(errors="replace")


# -- one file -------------------------------------------------------------------------------------


def _file(
    path: Path, name: str, prefix: str, only_source: str | None
) -> Iterator[Document | RejectedInput]:
    try:
        if name.lower().endswith((".jsonl", ".jsonl.gz")):
            yield from _records(path, name, prefix, only_source)
        else:
            yield _whole(path, name)
    except _Unusable as error:
        yield RejectedInput(name, str(error))
    except (gzip.BadGzipFile, zlib.error, EOFError):
        yield RejectedInput(name, "gzip data damaged or cut short")
    except OSError as error:
        yield RejectedInput(name, _unreadable(error))


def _unreadable(error: OSError) -> str:
    return f"unreadable: {(error.strerror or type(error).__name__).lower()}"


def _whole(path: Path, name: str) -> Document:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _Unusable(f"unsupported type {Path(name).suffix}".rstrip())
    if _size_bytes(path) > MAX_BYTES:
        raise _Unusable(f"larger than {MAX_BYTES // 1_000_000} MB")
    title, text = reader(path.read_bytes(), Path(name).stem)
    if not text:
        raise _Unusable("empty")
    return _document(name, title, text, {}, True)


def _size_bytes(path: Path) -> int:
    status = path.stat()
    # Opening a pipe would wait for its writer for ever.
    if not stat.S_ISREG(status.st_mode):
        raise _Unusable("not a regular file")
    return status.st_size


def _document(
    name: str, title: str, text: str, metadata: dict[str, str], consent: bool
) -> Document:
    title = " ".join(title.split())
    canonical = json.dumps([title, text, metadata, consent], ensure_ascii=False, sort_keys=True)
    content_hash = hashlib.sha256(canonical.encode()).hexdigest()
    return Document(DocumentId(name), title, text, metadata, consent, content_hash)


# -- records --------------------------------------------------------------------------------------


def _records(
    path: Path, name: str, prefix: str, only_source: str | None
) -> Iterator[Document | RejectedInput]:
    if _size_bytes(path) == 0:
        raise _Unusable("empty")
    with _opened(path, name) as stream:
        for number, line in enumerate(_lines(stream), 1):
            if not line.strip():
                continue
            source = f"{name}#line-{number}"
            try:
                record = _record(line)
                if only_source in (None, record.get("source")):
                    source = prefix + _record_id(record, number)
                    yield _document_of_record(record, source)
            except _Unusable as error:
                yield RejectedInput(source, f"line {number} {error}")


def _opened(path: Path, name: str) -> io.BufferedIOBase:
    return gzip.open(path) if name.lower().endswith(".gz") else path.open("rb")


def _lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """Lines of ``stream``; of one beyond MAX_BYTES only the first MAX_BYTES + 1 bytes."""
    while line := stream.readline(MAX_BYTES + 1):
        yield line
        while len(line) > MAX_BYTES and not line.endswith(b"\n"):
            line = stream.readline(MAX_BYTES + 1)


def _record(line: bytes) -> dict[str, object]:
    """The JSON object in ``line``."""
    if len(line) > MAX_BYTES:
        raise _Unusable(f"is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        record = json.loads(line.decode("utf-8-sig"))
        # JSON can spell half a surrogate pair, which no database or wire format takes.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeError:
        raise _Unusable("is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise _Unusable("is not JSON") from None
    if not isinstance(record, dict):
        raise _Unusable("is not a JSON object")
    return record


def _document_of_record(record: dict[str, object], name: str) -> Document:
    text = clean(_string(record.get("text")))
    if not text.strip():
        raise _Unusable("has no text")
    metadata = record.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise _Unusable("has metadata that is no object")
    return _document(
        name,
        clean(_string(record.get("title"))),
        text,
        {key: _flat(value) for key, value in metadata.items()},
        _consent(record.get("consent")) and _consent(metadata.get("consent")),
    )


def _record_id(record: dict[str, object], number: int) -> str:
    value = record.get("_id")
    return str(value) if value != "" and type(value) in (str, int) else f"line-{number}"


def _consent(value: object) -> bool:
    # "no" or 0 is somebody's refusal: to take it for consent would release what must not leave.
    if value is not None and not isinstance(value, bool):
        raise _Unusable("has a consent that is neither true nor false")
    return value is not False


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- formats: title and text of a file's bytes ----------------------------------------------------


def _unicode(data: bytes) -> str:
    try:
        return clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _Unusable("not UTF-8 text") from None


def _plain(data: bytes, stem: str) -> tuple[str, str]:
    text = _unicode(data)
    first = _FIRST_LINE.match(text)
    rest = text[first.end() :].strip() if first else ""
    # A note of one line is its text: a title alone would leave nothing to find.
    if first is None or not rest or len(first[1].rstrip()) > TITLE_CHARACTERS:
        return "", text.strip()
    return first[1], rest


def _markdown(data: bytes, stem: str) -> tuple[str, str]:
    text = _unicode(data)
    heading = _HEADING.search(text)
    if heading is None:
        return "", text.strip()
    return heading[1], (text[: heading.start()] + text[heading.end() :]).strip()


def _html(data: bytes, stem: str) -> tuple[str, str]:
    tree = LexborHTMLParser(_unicode(data))
    title = _html_title(tree)
    tree.strip_tags(_NOISE, recursive=True)
    for node in tree.css(_BLOCKS):
        node.insert_before(_BLOCK_BREAK)
        node.insert_after(_BLOCK_BREAK)
    # As Markdown marks them: where a passage stands is told by the heading above it.
    for node in tree.css(_SECTIONS):
        node.insert_before("#" * int(str(node.tag)[1]) + " ")
    for node in tree.css("br"):
        node.insert_before(_LINE_BREAK)
    # Doses in a table's cells must not run into each other.
    for node in tree.css(_CELL):
        node.insert_before(" | ")
    return title, _layout(tree.body.text() if tree.body else "")


def _html_title(tree: LexborHTMLParser) -> str:
    """The page's title; a first heading that only says it again is taken out of ``tree``."""
    named, heading = tree.css_first("head title"), tree.css_first("h1")
    title = " ".join(named.text().split()) if named else ""
    first = " ".join(heading.text().split()) if heading else ""
    if heading and title in ("", first):
        heading.decompose()
    return title or first


def _layout(marked: str) -> str:
    """Paragraphs between blank lines: what sentence splitting takes for an end."""
    blocks = (
        "\n".join(" ".join(line.split()) for line in block.split(_LINE_BREAK)).strip()
        for block in marked.split(_BLOCK_BREAK)
    )
    return clean("\n\n".join(block for block in blocks if block.strip("#")))


def _pdf(data: bytes, stem: str) -> tuple[str, str]:
    try:
        with pdfium.PdfDocument(data) as pdf:
            pages = [page.get_textpage().get_text_bounded() for page in pdf]
            title = _pdf_title(pdf)
    except pdfium.PdfiumError as error:
        encrypted = error.err_code == pdfium.raw.FPDF_ERR_PASSWORD
        raise _Unusable("encrypted PDF" if encrypted else "damaged PDF") from None
    text = clean(_PDF_HYPHEN.sub("", "\n\n".join(pages))).strip()
    if not text:
        raise _Unusable("PDF without text (a scan?)")
    return title or stem, text


def _pdf_title(pdf: pdfium.PdfDocument) -> str:
    try:
        return clean(pdf.get_metadata_value("Title")).strip()
    except UnicodeDecodeError:
        return ""


_READERS: dict[str, Callable[[bytes, str], tuple[str, str]]] = {
    ".txt": _plain,
    ".md": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
