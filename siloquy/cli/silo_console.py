"""``siloquy silo pause | resume``: the hospital's own switch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from siloquy import compose
from siloquy import identity as identities
from siloquy.cli.output import Folder, Json, out, print_json
from siloquy.person import at_this_machine

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
        begun = switch.begin(store.connection, compose.now_ms(), by, reason)
    if json:
        print_json({"paused": begun})
        return
    out.print(f"paused {escape(told(begun))}")
    out.print("the silo answers nothing until `siloquy silo resume`")


def resume(folder: Folder, json: Json = False) -> None:
    """End a pause: the silo answers again, and hands out its profile again within seconds."""
    from siloquy.silo_node import pause as switch

    with _opened(folder) as store:
        ended = switch.end(store.connection, compose.now_ms(), at_this_machine().name)
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
