"""What the benchmarks' commands share: options, the check of what they need, cells of tables."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siloquy.errors import UsageError

Split = Annotated[str, typer.Option(help="qrels/<split>.tsv to judge by.")]
Cache = Annotated[Path | None, typer.Option(help="Embedding cache.")]
Sample = Annotated[int | None, typer.Option(help="Ask a sample of this many.", min=2)]


def require(*packages: str) -> None:
    """UsageError for the first package of the extra ``eval`` that is absent, not after an hour."""
    for package in packages:
        if find_spec(package.replace("-", "_")) is None:
            raise UsageError(f"{package} is not installed", "pip install siloquy[eval]")


def interval(value: dict[str, float]) -> str:
    """A mean with its interval."""
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
