"""A document's hash stands for all of its content and for nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.silo_node.reading.inputs import lines_of, one


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
