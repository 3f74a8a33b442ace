"""What holds for every format: no bytes raise, nothing is guessed, the manual names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.reading.document import Document
from siloquy.silo_node.reading.formats import FORMATS
from siloquy.silo_node.reading.walk import read
from tests.silo_node.reading.inputs import reasons


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\x00\x00"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html"])
def test_blank_file_is_rejected_as_empty(tmp_path: Path, data: bytes, suffix: str) -> None:
    if (data, suffix) != (b"\x00\x00", ".html"):
        assert reasons(tmp_path / f"a{suffix}", data) == ["empty"]


@pytest.mark.parametrize("data", ["Größe".encode("latin-1"), "Dose".encode("utf-16"), b"a\xff"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".htm"])
def test_encodings_are_not_guessed(tmp_path: Path, data: bytes, suffix: str) -> None:
    assert reasons(tmp_path / f"a{suffix}", data) == ["not UTF-8 text"]


@given(st.binary(max_size=60), st.sampled_from([".txt", ".md", ".html", ".pdf", ".jsonl.gz"]))
def test_no_bytes_in_any_file_raise(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(data)
    assert len(list(read(path))) <= 1 + data.count(b"\n")


@given(
    st.text(st.characters(codec="utf-8"), max_size=60), st.sampled_from([".txt", ".md", ".html"])
)
def test_documents_have_text_and_titles_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"text{suffix}"
    path.write_bytes(text.encode())
    for item in read(path):
        if isinstance(item, Document):
            assert item.text.strip()
            assert item.title == " ".join(item.title.split())


def test_every_format_is_documented() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\.\w+)`", manual))
    # A format is named by one of its suffixes: .htm is another spelling of .html.
    assert {FORMATS[suffix] for suffix in named & set(FORMATS)} == set(FORMATS.values())
