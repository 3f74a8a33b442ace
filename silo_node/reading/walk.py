"""Which files of a folder are read, in which order, and under which names.

A hospital's folder is never tidy, so one bad file or record never stops the walk: it becomes a
RejectedInput with a reason that a person can act on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from siloquy.silo_node.reading.document import (
    MAX_BYTES,
    Document,
    RejectedInput,
    Unusable,
    in_collection,
    make_document,
)
from siloquy.silo_node.reading.formats import FORMATS
from siloquy.silo_node.reading.records import SUFFIXES, read_records
from siloquy.types import DocumentId


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
            yield in_collection(item, collection) if collection else item


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
        if name.lower().endswith(SUFFIXES):
            if _size_bytes(path) == 0:
                raise Unusable("empty")
            yield from read_records(path, name, prefix, only_source)
        else:
            yield _whole(path, name)
    except Unusable as error:
        yield RejectedInput(name, str(error))
    except OSError as error:
        yield RejectedInput(name, _unreadable(error))


def _unreadable(error: OSError) -> str:
    return f"unreadable: {(error.strerror or type(error).__name__).lower()}"


def _whole(path: Path, name: str) -> Document:
    read_format = FORMATS.get(path.suffix.lower())
    if read_format is None:
        raise Unusable(f"unsupported type {Path(name).suffix}".rstrip())
    if _size_bytes(path) > MAX_BYTES:
        raise Unusable(f"larger than {MAX_BYTES // 1_000_000} MB")
    title, text = read_format(path.read_bytes(), Path(name).stem)
    if not text:
        raise Unusable("empty")
    return make_document(name, title, text, {}, True)


def _size_bytes(path: Path) -> int:
    status = path.stat()
    # Opening a pipe would wait for its writer for ever.
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("not a regular file")
    return status.st_size
