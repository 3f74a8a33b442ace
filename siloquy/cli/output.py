"""What commands print: results on stdout, the rest on stderr, errors with their exit code."""

from __future__ import annotations

import errno
import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from siloquy import crash
from siloquy.codec import to_json
from siloquy.database import file_failed
from siloquy.errors import SettingsError, SiloquyError, UsageError

P = ParamSpec("P")
R = TypeVar("R")

# A disk that is full, read-only or failing.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Folder = Annotated[
    Path, typer.Option("--folder", "-f", envvar="SILOQUY_FOLDER", help="The node's folder.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask back.")]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[P, R]], Any]:
    """Register a command whose SiloquyErrors become a message and the documented exit code."""

    def register(function: Callable[P, R]) -> Any:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            told: SiloquyError
            try:
                _announce(crash.armed())
                return function(*args, **kwargs)
            except SiloquyError as error:
                told = error
            except OSError as error:
                told = _of_file(error)
            show_error(told, as_json=bool(kwargs.get("json")))
            raise typer.Exit(told.exit_code)

        return app.command(name)(run)

    return register


def _of_file(error: OSError) -> SiloquyError:
    if error.errno in _DISK:
        return file_failed(Path(str(error.filename or "a file")), error)
    return SettingsError(f"{error.filename}: {error.strerror}", "check path and rights")


def _announce(place: str) -> None:
    if place:
        err.print(
            f"[red]warning[/] {crash.VARIABLE} is set: this process kills itself at {escape(place)}"
        )


def show_error(error: SiloquyError, *, as_json: bool) -> None:
    """An error for people on stderr, or for programs on stdout."""
    if as_json:
        fields = {"code": error.code, "message": error.message, "hint": error.hint}
        print_json({"error": fields})
        return
    err.print(f"[red]error[/] {escape(error.message)}")
    if error.hint:
        err.print(f"  {escape(error.hint)}")


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n")


def table(*columns: str) -> Table:
    """A plain table."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column == "fingerprint")
    return shown


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file or on stdin (``-``); UsageError when there is none."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        data = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is no JSON") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no JSON object")
    return data


def log_to_stderr() -> None:
    """Service logs: time, level, message; no text of questions or passages is ever logged."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("websockets", "faiss", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Libraries' messages may quote what they were given.
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
