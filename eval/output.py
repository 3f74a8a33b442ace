"""What every benchmark writes into a new folder: manifest, results, and rows one a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siloquy.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_new(out: Path) -> None:
    """UsageError when something stands in ``out``: results are never written over."""
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", "name a new folder with --out")


def options(config: DataclassInstance) -> dict[str, Any]:
    """A run's options for its manifest; of a path the name alone, as it says who ran it where."""
    return {
        key: value.name if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }


def write(out: Path, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """``manifest.json`` and ``results.json``."""
    write_json(out / "manifest.json", manifest)
    write_json(out / "results.json", results)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """One object, indented, for people too."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_records(path: Path, rows: Iterable[DataclassInstance]) -> None:
    """One JSON object a line, of a dataclass each."""
    write_rows(path, map(asdict, rows))
