"""A folder as hospitals have them, through ``siloquy silo ingest``: the bad is set aside."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from siloquy.serve import demo
from tests.end_to_end.processes import Federation, Ran, run

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("cached_vectors"),
]

GOOD = demo.HOSPITALS / "harbour-general"


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    """A silo's folder."""
    folder = tmp_path / "valley"
    made = run("silo", "init", "--name", "valley", "-f", folder, "--organisation", "Valley")
    assert made.code == 0
    return folder


@pytest.fixture
def untidy(tmp_path: Path) -> Path:
    """Two good documents among every kind of bad one."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in ("vancomycin-dosing.txt", "sepsis-first-hour.md"):
        (folder / name).write_text((GOOD / name).read_text())
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.md").write_text(" \n\t\n")
    (folder / "latin.txt").write_bytes("Fièvre et frissons".encode("latin-1"))
    (folder / "garbage.pdf").write_bytes(os.urandom(2000))
    (folder / "cut.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    (folder / "empty.html").write_text("<html><head><title>x</title></head><body></body></html>")
    (folder / "scan.tiff").write_bytes(b"II*\0")
    (folder / "nowhere.txt").symlink_to(folder / "gone.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "outside.txt").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe.txt")
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "a", "text": "x"}\n')[:20])
    lines = [
        '{"_id": "note", "text": ""}',
        "no json",
        '["a list"]',
        '{"_id": "half", "text": "\\ud800"}',
        '{"_id": "refused", "text": "x y z", "consent": "no"}',
    ]
    (folder / "notes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def ingest(federation: Federation, source: Path, silo: Path) -> Ran:
    return federation.run("silo", "ingest", source, "-f", silo, "--json")


def test_unreadable_and_empty_files_are_quarantined_with_the_reason_and_the_rest_goes_in(
    fed: Federation, untidy: Path, silo: Path
) -> None:
    ran = ingest(fed, untidy, silo)
    assert ran.code == 0
    assert ran.json["added"] == 2
    assert ran.json["passages"] >= 2
    assert ran.json["profile"] == "made"
    reasons = {item["source"]: item["reason"] for item in ran.json["rejected"]}
    expected = {
        "empty.txt": "empty",
        "blank.md": "empty",
        "latin.txt": "not UTF-8",
        "garbage.pdf": "damaged PDF",
        "cut.pdf": "damaged PDF",
        "empty.html": "empty",
        "scan.tiff": "unsupported type .tiff",
        "nowhere.txt": "unreadable",
        "loop.txt": "unreadable",
        "outside.txt": "symlink out of the folder",
        "pipe.txt": "not a regular file",
        "cut.jsonl.gz": "gzip data damaged",
    }
    for source, reason in expected.items():
        assert reason in reasons[source], source
    records = [text for source, text in reasons.items() if source.startswith("notes.jsonl")]
    assert len(records) == 5
    assert not [text for text in reasons.values() if "frissons" in text or "x y z" in text]
    status = run("silo", "status", "-f", silo).json
    assert status["quarantined"] == reasons
    assert (status["documents"], status["passages"]) == (2, ran.json["passages"])


def test_ingesting_again_changes_nothing_and_a_mended_file_leaves_quarantine(
    fed: Federation, untidy: Path, silo: Path
) -> None:
    first = ingest(fed, untidy, silo).json
    again = ingest(fed, untidy, silo).json
    counted = ("added", "replaced", "unchanged", "passages", "embedded")
    assert [again[key] for key in counted] == [0, 0, 2, 0, 0]
    assert again["profile"] == "kept"
    assert again["rejected"] == first["rejected"]

    mended = (GOOD / "staph-aureus-bacteraemia.md").read_text()
    (untidy / "empty.txt").unlink()
    (untidy / "blank.md").write_text(mended)
    (untidy / "vancomycin-dosing.txt").unlink()
    report = ingest(fed, untidy, silo).json
    assert (report["added"], report["unchanged"]) == (1, 1)
    status = run("silo", "status", "-f", silo).json
    assert "blank.md" not in status["quarantined"]
    assert "latin.txt" in status["quarantined"]


def test_a_single_bad_file_and_a_missing_folder_are_told_apart(
    fed: Federation, untidy: Path, silo: Path
) -> None:
    ran = ingest(fed, untidy / "latin.txt", silo)
    assert (ran.code, ran.json["added"], len(ran.json["rejected"])) == (0, 0, 1)
    ran = ingest(fed, untidy / "gone", silo)
    assert (ran.code, ran.error["code"]) == (2, "usage")


def test_people_are_told_what_was_set_aside_without_its_content(
    fed: Federation, untidy: Path, silo: Path
) -> None:
    ran = fed.run("silo", "ingest", untidy, "-f", silo)
    assert ran.code == 0
    assert "quarantined empty.txt: empty" in ran.out
    assert "frissons" not in ran.out + ran.err


def test_records_without_consent_are_kept_unsearchable(
    fed: Federation, tmp_path: Path, silo: Path
) -> None:
    records: list[dict[str, Any]] = [
        {"_id": "yes", "text": (GOOD / "vancomycin-dosing.txt").read_text()[:200]},
        {"_id": "no", "text": "Never to be released.", "consent": False},
    ]
    source = tmp_path / "notes.jsonl"
    source.write_text("\n".join(map(json.dumps, records[1:])))
    ran = ingest(fed, source, silo)
    assert (ran.json["added"], ran.json["passages"]) == (1, 0)
    status = run("silo", "status", "-f", silo).json
    assert (status["documents"], status["documents_without_consent"]) == (1, 1)
