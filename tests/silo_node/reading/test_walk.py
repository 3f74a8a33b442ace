"""Which files of a folder are read, in which order, and reasons for the others."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from siloquy.silo_node.reading.document import MAX_BYTES, Document, RejectedInput
from siloquy.silo_node.reading.walk import read
from tests.silo_node.reading.inputs import ids, lines_of, rejected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "hospital"
    for name in ["b.txt", "a/z.md", "a/README.md", "README.md", ".hidden.txt", ".git/x.txt"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("Give 5 mg.")
    (root / "a" / "notes.jsonl").write_bytes(lines_of({"_id": "n1", "text": "x"}))
    return root


def test_folder_is_walked_in_order_without_hidden_files_and_its_readme(folder: Path) -> None:
    assert ids(folder) == ["a/README.md", "a/notes.jsonl#n1", "a/z.md", "b.txt"]
    assert rejected(folder) == {}


def test_folder_is_named_by_any_path_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ids(folder)
    (folder.parent / "link").symlink_to(folder)
    assert ids(folder.parent / "link") == expected
    monkeypatch.chdir(folder)
    assert ids(Path()) == expected


def test_each_file_of_another_type_is_rejected_by_its_suffix(folder: Path) -> None:
    for name in ["a/scan.xyz", "b.docx", "Makefile"]:
        (folder / name).touch()
    assert rejected(folder) == {
        "Makefile": "unsupported type",
        "a/scan.xyz": "unsupported type .xyz",
        "b.docx": "unsupported type .docx",
    }


def test_links_are_followed_only_to_files_of_the_folder(folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    links = {
        "ok.txt": folder / "b.txt",
        "out.txt": folder.parent / "secret.txt",
        "up.txt": Path("../secret.txt"),
        "loop.txt": folder / "loop.txt",
        "gone.txt": folder / "nothing.txt",
        "dir": folder / "a",
        "parent": folder.parent,
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    assert ids(folder)[-2:] == ["b.txt", "ok.txt"]
    assert rejected(folder) == {
        "dir": "symlink to a folder",
        "gone.txt": "unreadable: no such file or directory",
        "loop.txt": "unreadable: too many levels of symbolic links",
        "out.txt": "symlink out of the folder",
        "parent": "symlink out of the folder",
        "up.txt": "symlink out of the folder",
    }


def test_corpus_that_links_out_of_its_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_bytes(lines_of({"_id": "a", "text": "x"}))
    (tmp_path / "beir").mkdir()
    (tmp_path / "beir" / "corpus.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert rejected(tmp_path / "beir") == {"corpus.jsonl": "symlink out of the folder"}


def test_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    os.mkfifo(folder / "pipe.jsonl")
    assert set(rejected(folder).values()) == {"not a regular file"}


def test_name_in_another_encoding_becomes_an_id_of_unicode(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    try:
        (folder / name).write_text("x")
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    assert ids(folder)[-1] == "caf\ufffd.txt"


def test_file_beyond_the_limit_is_rejected_unread(folder: Path) -> None:
    with (folder / "big.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert rejected(folder) == {"big.txt": "larger than 50 MB"}


def test_file_without_permission_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may read everything, so that chmod proves nothing in a container.
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert set(rejected(folder).values()) == {"unreadable: permission denied"}
    assert ids(folder) == ["a/notes.jsonl#n1"]


def test_folder_without_permission_is_rejected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def refuse(path: str | Path) -> list[str]:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert rejected(folder) == {"a": "unreadable: permission denied"}
    assert ids(folder) == ["b.txt"]


def test_path_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    assert rejected(tmp_path / "no.txt") == {"no.txt": "unreadable: no such file or directory"}


def test_beir_folder_gives_its_corpus_alone(folder: Path) -> None:
    (folder / "queries.jsonl").write_bytes(lines_of({"_id": "q", "text": "?"}))
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines_of({"_id": "d1", "text": "x"})))
    assert ids(folder) == ["d1"]


def test_second_document_of_an_id_is_rejected(tmp_path: Path) -> None:
    records = [{"_id": "a", "text": "first"}, {"_id": "a", "text": "second"}]
    (tmp_path / "corpus.jsonl").write_bytes(lines_of(*records))
    first, second = read(tmp_path)
    assert isinstance(first, Document)
    assert first.text == "first"
    assert second == RejectedInput("a", "the same id twice")
