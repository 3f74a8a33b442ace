"""Documents out of records: a JSON object a line, each with its own consent."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from siloquy.silo_node.reading.document import (
    MAX_BYTES,
    Document,
    RejectedInput,
    Unusable,
    make_document,
)
from siloquy.text.words import clean

SUFFIXES = (".jsonl", ".jsonl.gz")


def read_records(
    path: Path, name: str, prefix: str, only_source: str | None
) -> Iterator[Document | RejectedInput]:
    """Each record of a regular file, in its order; raises Unusable where the file ends too early.

    name          the file's id: what a line that is no record is called by
    prefix        stands before the id of each record
    only_source   keep only records whose field ``source`` equals it
    """
    try:
        with _opened(path, name) as stream:
            for number, line in enumerate(_lines(stream), 1):
                if line.strip():
                    yield from _read_line(line, number, name, prefix, only_source)
    except (gzip.BadGzipFile, zlib.error, EOFError):
        raise Unusable("gzip data damaged or cut short") from None


def _read_line(
    line: bytes, number: int, name: str, prefix: str, only_source: str | None
) -> Iterator[Document | RejectedInput]:
    source = f"{name}#line-{number}"
    try:
        record = _record(line)
        if only_source in (None, record.get("source")):
            source = prefix + _record_id(record, number)
            yield _document(record, source)
    except Unusable as error:
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
        raise Unusable(f"is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        record = json.loads(line.decode("utf-8-sig"))
        # JSON can spell half a surrogate pair, which no database or wire format takes.
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeError:
        raise Unusable("is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise Unusable("is not JSON") from None
    if not isinstance(record, dict):
        raise Unusable("is not a JSON object")
    return record


def _document(record: dict[str, object], name: str) -> Document:
    text = clean(_string(record.get("text")))
    if not text.strip():
        raise Unusable("has no text")
    metadata = record.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise Unusable("has metadata that is no object")
    return make_document(
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
        raise Unusable("has a consent that is neither true nor false")
    return value is not False


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _flat(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
