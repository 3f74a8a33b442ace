"""``siloquy demo``: a whole federation on this machine, to be asked in the browser or here."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from siloquy.cli.ask import Intent, Mode, Route, Why, ask_and_print, body_of
from siloquy.cli.output import Json, err
from siloquy.serve.demo import Demo, federation, watch


def demo(
    corpus: Annotated[
        Path | None, typer.Option(help="A BEIR folder whose field `source` names the silo.")
    ] = None,
    ask: Annotated[str | None, typer.Option(help="Ask this, print the answer and stop.")] = None,
    mode: Mode = None,
    route: Route = None,
    intent: Intent = None,
    why: Why = False,
    folder: Annotated[
        Path | None, typer.Option("--folder", "-f", help="Keep the nodes in this new folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a whole federation on this machine: hospitals, hub and gateway as processes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    with (
        Status("starting", console=err) as status,
        federation(corpus, folder, status.update) as running,
    ):
        status.stop()
        err.print(
            f"ready in {running.ready_s:.1f} s: {len(running.layout.silos)} silos, "
            f"hub and gateway at [bold]{running.layout.gateway_url}[/]"
        )
        if ask is not None:
            body = body_of(ask, mode=mode, route=route, intent=intent)
            code = ask_and_print(running.layout.gateway_url, body, why=why, json=json)
            raise typer.Exit(code)
        _wait(running)


def _wait(running: Demo) -> None:
    err.print('ask in the browser, or: siloquy ask "..." --gateway', running.layout.gateway_url)
    err.print("Ctrl-C ends it")
    try:
        watch(running)
    except KeyboardInterrupt:
        err.print("shutting down")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
