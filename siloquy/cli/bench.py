"""``siloquy bench``: measured claims."""

from __future__ import annotations

import typer

from siloquy.cli.bench_answers import answers
from siloquy.cli.bench_load import load
from siloquy.cli.bench_retrieval import retrieval
from siloquy.cli.bench_routing import routing
from siloquy.cli.bench_sealed import sealed
from siloquy.cli.output import command

app = typer.Typer(help="Benchmarks: each writes its manifest and per-query rows.")


@app.callback()
def group() -> None:
    """Benchmarks: each writes its manifest and per-query rows."""


command(app, "retrieval")(retrieval)
command(app, "load")(load)
command(app, "routing")(routing)
command(app, "sealed")(sealed)
command(app, "answers")(answers)
