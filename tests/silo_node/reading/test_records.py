"""Documents out of records, one a line, and who withheld consent."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node.reading import records
from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.reading.walk import read
from tests.silo_node.reading.inputs import ids, lines_of, one, reasons, rejected


def test_record_gives_title_text_and_metadata(tmp_path: Path) -> None:
    record = {
        "_id": "r1",
        "title": "Case  note",
        "text": " As it is.\r\n",
        "metadata": {"ward": "A", "age": 7, "seen": True, "codes": ["x", {"y": None}]},
    }
    document = one(tmp_path / "a.jsonl", lines_of(record))
    assert (document.id, document.title, document.text) == ("r1", "Case note", " As it is.\n")
    assert document.metadata == {
        "ward": "A",
        "age": "7",
        "seen": "true",
        "codes": '["x", {"y": null}]',
    }
    assert document.consent


def test_records_without_an_id_are_called_by_their_line(tmp_path: Path) -> None:
    data = b"\n" + lines_of({"text": "a"}, {"_id": "", "text": "b"}, {"_id": 0, "text": "c"})
    (tmp_path / "a.jsonl").write_bytes(data)
    assert ids(tmp_path / "a.jsonl") == ["line-2", "line-3", "0"]
    assert ids(tmp_path) == ["a.jsonl#line-2", "a.jsonl#line-3", "a.jsonl#0"]


@pytest.mark.parametrize(
    ("fields", "consent"),
    [
        ({}, True),
        ({"consent": None}, True),
        ({"consent": True, "metadata": {"consent": True}}, True),
        ({"consent": False}, False),
        ({"metadata": {"consent": False}}, False),
        ({"consent": True, "metadata": {"consent": False}}, False),
        ({"consent": False, "metadata": {"consent": True}}, False),
    ],
)
def test_consent_withdrawn_anywhere_is_withdrawn(
    tmp_path: Path, fields: dict[str, object], consent: bool
) -> None:
    assert one(tmp_path / "a.jsonl", lines_of({"text": "a", **fields})).consent is consent


@pytest.mark.parametrize("consent", ["false", "no", 0, 1, [], {}])
def test_unclear_consent_is_not_taken_for_consent(tmp_path: Path, consent: object) -> None:
    data = lines_of(
        {"text": "a", "consent": consent}, {"text": "a", "metadata": {"consent": consent}}
    )
    reason = "has a consent that is neither true nor false"
    assert reasons(tmp_path / "a.jsonl", data) == [f"line 1 {reason}", f"line 2 {reason}"]


def test_bad_records_do_not_stop_the_good_ones(tmp_path: Path) -> None:
    bad = [
        b"not json",
        b'["list"]',
        b'{"_id": "r", "title": "only"}',
        b'{"text": " \\n"}',
        b'{"text": 5}',
        b'{"text": "a", "metadata": ["x"]}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([lines_of({"_id": "ok", "text": "a"}).strip(), *bad, b""]))
    assert ids(path) == ["ok"]
    assert rejected(path) == {
        "a.jsonl#line-2": "line 2 is not JSON",
        "a.jsonl#line-3": "line 3 is not a JSON object",
        "r": "line 4 has no text",
        "line-5": "line 5 has no text",
        "line-6": "line 6 has no text",
        "line-7": "line 7 has metadata that is no object",
        "a.jsonl#line-8": "line 8 is not UTF-8 text",
        "a.jsonl#line-9": "line 9 is not UTF-8 text",
        "a.jsonl#line-10": "line 10 is not JSON",
    }


def test_file_without_records_is_empty(tmp_path: Path) -> None:
    assert reasons(tmp_path / "a.jsonl", b"") == ["empty"]


def test_compressed_records_are_read(tmp_path: Path) -> None:
    data = gzip.compress(lines_of({"_id": "a", "text": "x"}))
    assert one(tmp_path / "a.jsonl.gz", data).id == "a"


def test_compressed_file_cut_short_keeps_what_was_read_before(tmp_path: Path) -> None:
    # Hashes hardly compress, so that the cut falls into the records.
    texts = [hashlib.shake_256(bytes([i])).hexdigest(400) for i in range(200)]
    records = [{"_id": f"r{i}", "text": text} for i, text in enumerate(texts)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines_of(*records))[:60_000])
    assert ids(path)[:50] == [f"r{i}" for i in range(50)]
    assert rejected(path) == {"a.jsonl.gz": "gzip data damaged or cut short"}


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b"x" * 99, mtime=0)[:15] + b"\xff" * 30])
def test_damaged_compressed_file_is_rejected(tmp_path: Path, data: bytes) -> None:
    assert reasons(tmp_path / "a.jsonl.gz", data) == ["gzip data damaged or cut short"]


def test_line_beyond_the_limit_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines_of({"text": "x" * 1000}, {"_id": "b", "text": "y"}, {"text": "z" * 300}))
    assert ids(path) == ["b"]
    assert [reason.partition(" is ")[0] for reason in rejected(path).values()] == [
        "line 1",
        "line 3",
    ]


@given(st.lists(st.binary(max_size=30) | st.just(b'{"text": "a"}'), max_size=6))
def test_no_bytes_in_a_record_file_raise(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    good = sum(line == b'{"text": "a"}' for line in lines)
    assert sum(isinstance(item, Document) for item in read(path)) >= good


def test_only_records_of_one_source_are_kept(tmp_path: Path) -> None:
    records = [
        {"_id": "a", "text": "x", "source": "S1"},
        {"_id": "b", "text": "x", "source": "S2"},
        {"_id": "c", "text": ""},
    ]
    (tmp_path / "corpus.jsonl").write_bytes(lines_of(*records))
    assert ids(tmp_path, "S2") == ["b"]
    assert not [item for item in read(tmp_path, "S2") if isinstance(item, RejectedInput)]
