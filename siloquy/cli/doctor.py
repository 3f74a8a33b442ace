"""``siloquy doctor``: this machine and its nodes, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from siloquy.cli.output import Json, out, print_json, table
from siloquy.errors import SettingsError, UsageError
from siloquy.serve.doctor import examine


def doctor(
    folder: Annotated[
        list[Path] | None, typer.Option("--folder", "-f", help="A node to check; repeat.")
    ] = None,
    json: Json = False,
) -> None:
    """Check this machine and its nodes, and say how to mend what is wrong."""
    for item in folder or ():
        if not item.is_dir():
            raise UsageError(f"{item} is no folder")
    findings = examine(folder or [])
    broken = [item for item in findings if item.state == "broken"]
    if json and not broken:
        print_json({"findings": findings})
    elif not json:
        rows = table("check", "result", "found", "how to fix")
        colours = {"ok": "green", "skipped": "yellow", "warning": "yellow", "broken": "red"}
        for finding in findings:
            word = f"[{colours[finding.state]}]{finding.state}[/]"
            rows.add_row(finding.check, word, escape(finding.found), escape(finding.fix))
        out.print(rows)
    if broken:
        raise SettingsError(
            f"{len(broken)} checks failed: {', '.join(item.check for item in broken)}",
            broken[0].fix,
        )
