"""Title and text of Markdown."""

from __future__ import annotations

from pathlib import Path

from tests.silo_node.reading.inputs import one, reasons


def test_first_heading_of_markdown_is_its_title_and_leaves_the_text(tmp_path: Path) -> None:
    document = one(tmp_path / "a.md", b"Draft\n\n## Risk\n# Tumour  lysis \n*High* risk\n# Two\n")
    assert document.title == "Tumour lysis"
    assert document.text == "Draft\n\n## Risk\n*High* risk\n# Two"


def test_markdown_without_a_heading_has_no_title(tmp_path: Path) -> None:
    document = one(tmp_path / "a.md", b"#hashtag\n\n## Risk\nHigh")
    assert (document.title, document.text) == ("", "#hashtag\n\n## Risk\nHigh")


def test_markdown_of_a_heading_alone_is_empty(tmp_path: Path) -> None:
    assert reasons(tmp_path / "a.md", b"# Title\n") == ["empty"]


def test_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert one(tmp_path / "a.md", "\ufeff# Größe\nx".encode()).title == "Größe"
