"""``siloquy bench``: measured claims."""

from __future__ import annotations

import typer

app = typer.Typer(help="Benchmarks: each writes its manifest and per-query rows.")
