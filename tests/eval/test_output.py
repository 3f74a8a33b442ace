"""What benchmarks write: into a new folder alone, without a path of whoever ran them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from siloquy.errors import UsageError
from siloquy.eval import output


@dataclass(frozen=True, slots=True)
class Options:
    out: Path
    seed: int = 0
    cache: Path | None = None


def test_a_new_folder_is_one_that_is_absent_or_empty(tmp_path: Path) -> None:
    output.check_new(tmp_path)
    output.check_new(tmp_path / "absent")
    (tmp_path / "old").touch()
    with pytest.raises(UsageError) as refused:
        output.check_new(tmp_path)
    assert refused.value.message == f"{tmp_path} is not empty"
    assert refused.value.hint == "name a new folder with --out"


def test_of_a_path_the_manifest_holds_the_name_alone(tmp_path: Path) -> None:
    assert output.options(Options(tmp_path / "out")) == {"out": "out", "seed": 0, "cache": None}


def test_manifest_and_results_read_back_as_they_were(tmp_path: Path) -> None:
    output.write(tmp_path, {"seed": 1}, {"mean": 0.5, "silos": ["north"]})
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"seed": 1}
    assert json.loads((tmp_path / "results.json").read_text()) == {"mean": 0.5, "silos": ["north"]}


def test_rows_and_records_stand_one_a_line(tmp_path: Path) -> None:
    output.write_rows(tmp_path / "rows.jsonl", [{"id": "q1"}, {"id": "a\nb"}])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["q1", "a\nb"]

    @dataclass(frozen=True)
    class Row:
        id: str

    output.write_records(tmp_path / "records.jsonl", [Row("q1"), Row("q2")])
    assert (tmp_path / "records.jsonl").read_text() == '{"id": "q1"}\n{"id": "q2"}\n'
