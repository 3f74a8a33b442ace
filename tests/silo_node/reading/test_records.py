"""Documents out of files of every kind, and reasons for those that give none."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.silo_node import documents
from siloquy.silo_node.documents import Document, RejectedInput, read

ENCRYPTED = (
    b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 "
    b"/O (oooooooooooooooooooooooooooooooo) /U (uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu) >> "
    b"/ID [(0123456789abcdef) (0123456789abcdef)]"
)


def pdf_of(pages: Sequence[Sequence[str]], title: str = "", trailer: bytes = b"") -> bytes:
    """A PDF whose pages have these lines in Helvetica."""
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for i, lines in enumerate(pages):
        shown = " T* ".join(f"({line}) Tj" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (6 + 2 * i)
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream".encode())
    return _with_table(objects, trailer)


def _with_table(objects: Sequence[bytes], trailer: bytes) -> bytes:
    file, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(file)
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    head = b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R %s >>" % (size, trailer)
    return b"%sxref\n0 %d\n%s%s\nstartxref\n%d\n%%%%EOF\n" % (file, size, table, head, len(file))


def lines_of(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def one(path: Path, data: bytes) -> Document:
    """The only document in a file with these bytes."""
    path.write_bytes(data)
    (item,) = read(path)
    assert isinstance(item, Document), item
    return item


def reasons(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return [item.reason for item in read(path) if isinstance(item, RejectedInput)]


def ids(path: Path, only_source: str | None = None) -> list[str]:
    return [item.id for item in read(path, only_source) if isinstance(item, Document)]


def rejected(path: Path) -> dict[str, str]:
    return {item.source: item.reason for item in read(path) if isinstance(item, RejectedInput)}


# -- text and Markdown ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"\x00\x00"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".html"])
def test_blank_file_is_rejected_as_empty(tmp_path: Path, data: bytes, suffix: str) -> None:
    if (data, suffix) != (b"\x00\x00", ".html"):
        assert reasons(tmp_path / f"a{suffix}", data) == ["empty"]


@pytest.mark.parametrize("data", ["Größe".encode("latin-1"), "Dose".encode("utf-16"), b"a\xff"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".htm"])
def test_encodings_are_not_guessed(tmp_path: Path, data: bytes, suffix: str) -> None:
    assert reasons(tmp_path / f"a{suffix}", data) == ["not UTF-8 text"]


# -- HTML -----------------------------------------------------------------------------------------


def test_html_keeps_content_without_its_frame(tmp_path: Path) -> None:
    page = b"""<html><head><title>Fever &amp; chills</title><style>p {}</style></head><body>
    <header><nav>Home</nav>Logo</header><noscript>no</noscript><template><p>t</p></template>
    <p>Give 5&nbsp;mg
    now.</p><script>alert(1)</script><div>First<p>second</p>third<br>fourth</div>
    <ul><li>a &lt; b<li>c</ul><!-- comment --><footer>Imprint</footer></body></html>"""
    document = one(tmp_path / "a.html", page)
    assert document.title == "Fever & chills"
    assert document.text == ("Give 5 mg now.\n\nFirst\n\nsecond\n\nthird\nfourth\n\na < b\n\nc")


def test_heading_is_the_title_of_html_without_one(tmp_path: Path) -> None:
    document = one(tmp_path / "a.htm", b"<header><h1>Fever <i>plan</i></h1></header><p>Call us")
    assert (document.title, document.text) == ("Fever plan", "Call us")


def test_heading_that_repeats_the_title_leaves_the_text(tmp_path: Path) -> None:
    document = one(tmp_path / "a.html", b"<title>Fever</title><h1>Fever </h1><p>Call us")
    assert (document.title, document.text) == ("Fever", "Call us")


def test_heading_that_says_more_than_the_title_stays(tmp_path: Path) -> None:
    document = one(tmp_path / "a.html", b"<title>Ward 5</title><h1>Fever</h1><p>Call us")
    assert (document.title, document.text) == ("Ward 5", "# Fever\n\nCall us")


def test_headings_of_html_are_marked_as_those_of_markdown(tmp_path: Path) -> None:
    page = b"<h1>Fever</h1><h2>When <i>to</i> call</h2><p>Call us<h4>At night</h4>Wait<h3></h3>"
    document = one(tmp_path / "a.html", page)
    assert document.title == "Fever"
    assert document.text == "## When to call\n\nCall us\n\n#### At night\n\nWait"


def test_cells_of_a_table_do_not_run_into_each_other(tmp_path: Path) -> None:
    table = b"<table><tr><th>Drug<th>Dose<tr><td>A</td><td>5 mg</td></tr></table>"
    assert one(tmp_path / "a.html", table).text == "Drug | Dose\n\nA | 5 mg"


def test_charset_that_a_page_claims_does_not_matter(tmp_path: Path) -> None:
    page = '<meta charset="latin1"><p>Fièvre'.encode()
    assert one(tmp_path / "a.html", page).text == "Fièvre"


def test_page_without_content_is_empty(tmp_path: Path) -> None:
    assert reasons(tmp_path / "a.html", b"<title>x</title><nav>y</nav>") == ["empty"]
    assert reasons(tmp_path / "b.html", b"<frameset><frame></frameset>") == ["empty"]


# -- PDF ------------------------------------------------------------------------------------------


def test_pages_of_a_pdf_are_joined_by_a_blank_line(tmp_path: Path) -> None:
    data = pdf_of([["Give 5 mg.", "Wait."], ["Page two."]], title="Sepsis plan")
    document = one(tmp_path / "scan 1.pdf", data)
    assert (document.title, document.text) == ("Sepsis plan", "Give 5 mg.\nWait.\n\nPage two.")


def test_pdf_without_a_title_is_called_like_its_file(tmp_path: Path) -> None:
    assert one(tmp_path / "sepsis.v2.PDF", pdf_of([["x"]])).title == "sepsis.v2"


def test_word_that_a_pdf_splits_at_a_line_end_is_whole(tmp_path: Path) -> None:
    document = one(tmp_path / "a.pdf", pdf_of([["The appli-", "cation is slow."]]))
    assert document.text == "The application is slow."


def test_pdf_title_in_broken_unicode_counts_as_none(tmp_path: Path) -> None:
    data = pdf_of([["x"]], title=r"\376\377\330\000")
    assert one(tmp_path / "a.pdf", data).title == "a"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf_of([[], []]), "PDF without text (a scan?)"),
        (pdf_of([["x"]], trailer=ENCRYPTED), "encrypted PDF"),
        (b"%PDF-1.4 garbage", "damaged PDF"),
        (b"", "damaged PDF"),
    ],
)
def test_pdf_that_cannot_be_read_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reasons(tmp_path / "a.pdf", data) == [reason]


# -- records --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b"x" * 99)[:15] + b"\xff" * 30])
def test_damaged_compressed_file_is_rejected(tmp_path: Path, data: bytes) -> None:
    assert reasons(tmp_path / "a.jsonl.gz", data) == ["gzip data damaged or cut short"]


def test_line_beyond_the_limit_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
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


# -- folders --------------------------------------------------------------------------------------


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
        file.truncate(documents.MAX_BYTES + 1)
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


def test_only_records_of_one_source_are_kept(tmp_path: Path) -> None:
    records = [
        {"_id": "a", "text": "x", "source": "S1"},
        {"_id": "b", "text": "x", "source": "S2"},
        {"_id": "c", "text": ""},
    ]
    (tmp_path / "corpus.jsonl").write_bytes(lines_of(*records))
    assert ids(tmp_path, "S2") == ["b"]
    assert not [item for item in read(tmp_path, "S2") if isinstance(item, RejectedInput)]


def test_second_document_of_an_id_is_rejected(tmp_path: Path) -> None:
    records = [{"_id": "a", "text": "first"}, {"_id": "a", "text": "second"}]
    (tmp_path / "corpus.jsonl").write_bytes(lines_of(*records))
    first, second = read(tmp_path)
    assert isinstance(first, Document)
    assert first.text == "first"
    assert second == RejectedInput("a", "the same id twice")


# -- hashes ---------------------------------------------------------------------------------------


def test_equal_content_has_an_equal_hash_whatever_its_name_and_order(tmp_path: Path) -> None:
    left = one(tmp_path / "a.jsonl", b'{"_id": "1", "text": "x", "metadata": {"a": 1, "b": 2}}')
    right = one(tmp_path / "b.jsonl", b'{"metadata": {"b": 2, "a": 1}, "text": "x"}')
    assert left.content_hash == right.content_hash
    assert len(left.content_hash) == 64


def test_each_part_of_the_content_changes_the_hash(tmp_path: Path) -> None:
    whole: dict[str, object] = {"text": "x", "title": "t", "metadata": {"a": "1"}}
    changes: list[dict[str, object]] = [
        {},
        {"text": "y"},
        {"title": "u"},
        {"title": ""},
        {"metadata": {"a": "2"}},
        {"metadata": {}},
        {"consent": False},
    ]
    hashes = {
        one(tmp_path / "a.jsonl", lines_of(whole | change)).content_hash for change in changes
    }
    assert len(hashes) == len(changes)
