"""``siloquy verify``: an answer's receipt, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from siloquy.cli.output import Json, out, print_json, read_json, table
from siloquy.errors import IntegrityError
from siloquy.trust import receipt


def verify(
    receipt_file: Annotated[
        Path, typer.Argument(help="Output of `ask --json`, or its receipt; - for stdin.")
    ],
    federation: Annotated[
        str | None, typer.Option(help="Federation fingerprint that a founder told you.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="The question that was asked.")] = None,
    json: Json = False,
) -> None:
    """Check an answer's receipt: signatures, ledger heads and the texts it commits to."""
    checks = receipt.check(read_json(receipt_file), federation, question)
    failed = [item.name for item in checks if item.holds is False]
    if json and not failed:
        print_json({"holds": True, "checks": checks})
    elif not json:
        rows = table("check", "result", "detail")
        for item in checks:
            word = {True: "[green]holds[/]", False: "[red]fails[/]", None: "compare"}[item.holds]
            rows.add_row(item.name, word, escape(item.detail))
        out.print(rows)
    if failed:
        raise IntegrityError(f"the receipt does not hold: {', '.join(failed)}")
