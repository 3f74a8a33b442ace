"""Title and text of plain text."""

from __future__ import annotations

from pathlib import Path

from tests.silo_node.reading.inputs import one


def test_first_short_line_of_a_text_file_is_its_title(tmp_path: Path) -> None:
    document = one(tmp_path / "a.txt", b"\n  Order set \r\n\r\n1. Assess\r\n2. Treat\r\n")
    assert (document.title, document.text) == ("Order set", "1. Assess\n2. Treat")


def test_long_first_line_of_a_text_file_stays_in_the_text(tmp_path: Path) -> None:
    line = "word " * 25
    document = one(tmp_path / "a.txt", f"{line}\nmore".encode())
    assert (document.title, document.text) == ("", f"{line}\nmore")


def test_note_of_one_line_is_text_and_not_title(tmp_path: Path) -> None:
    document = one(tmp_path / "a.txt", b"Give 5 mg.\n")
    assert (document.title, document.text) == ("", "Give 5 mg.")
