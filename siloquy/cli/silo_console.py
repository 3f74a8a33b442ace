"""``siloquy silo pause | resume | console``: the switch, and the page that shows the silo."""

from __future__ import annotations

import asyncio
import html
import os
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from siloquy.cli.output import Folder, Json, err, log_to_stderr, out, print_json
from siloquy.os_user import at_this_machine
from siloquy.process import now_ms
from siloquy.trust import identity as identities

if TYPE_CHECKING:
    from siloquy.silo_node.pause import Pause
    from siloquy.silo_node.store import Store


def pause(
    folder: Folder,
    reason: Annotated[str, typer.Option(help="Why; it stays at this silo.")] = "",
    json: Json = False,
) -> None:
    """Let nothing leave from now on, also of a serving silo, until `silo resume`."""
    from siloquy.silo_node import pause as switch

    with _opened(folder) as store:
        by = at_this_machine().name
        begun = switch.begin(store.connection, now_ms(), by, reason)
    if json:
        print_json({"paused": begun})
        return
    out.print(f"paused {escape(told(begun))}")
    out.print("the silo answers nothing until `siloquy silo resume`")


def resume(folder: Folder, json: Json = False) -> None:
    """End a pause: the silo answers again, and hands out its profile again within seconds."""
    from siloquy.silo_node import pause as switch

    with _opened(folder) as store:
        ended = switch.end(store.connection, now_ms(), at_this_machine().name)
    if json:
        print_json({"paused": None, "ended": ended})
        return
    out.print("the silo answers again" if ended else "the silo was not paused")


def told(pause: Pause) -> str:
    """A pause in words."""
    when = datetime.fromtimestamp(pause.since / 1000, UTC)
    why = f": {pause.reason}" if pause.reason else ""
    return f"since {when:%Y-%m-%d %H:%M} UTC by {pause.by}{why}"


@contextmanager
def _opened(folder: Path) -> Iterator[Store]:
    """The store of the node in ``folder``."""
    from siloquy.silo_node.store import Store

    identities.load(folder)
    with closing(Store(folder / "silo.sqlite")) as store:
        yield store


def console(
    folder: Folder,
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0: a free one.", min=0, max=65535)
    ] = 0,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Show this silo and its ledger in a page on this machine; the serving silo is not touched."""
    from siloquy.silo_node.console.app import serve_console

    with tempfile.TemporaryDirectory(prefix="siloquy-") as private:

        def show(link: str) -> None:
            out.print(f"open {link}")
            err.print("the link is good once, for ten minutes; press Enter for another")
            if open_page:
                page = leading_to(link, Path(private))
                # A browser of the terminal would keep the console waiting.
                threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

        log_to_stderr()
        asyncio.run(serve_console(folder, port, show))


def leading_to(link: str, private: Path) -> str:
    """The address of a page in the folder ``private`` that leads to ``link``.

    What a browser is started with, every user of the machine can read while it starts.
    """
    path = private / "open.html"
    text = f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(link)}">\n'
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as page:
        page.write(text)
    return path.as_uri()
