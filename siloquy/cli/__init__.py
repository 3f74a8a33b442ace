"""The command line, a file a command: ``siloquy demo | ask | verify | doctor | silo | ...``."""

from __future__ import annotations

import sys

import typer

from siloquy import __version__
from siloquy.cli import ask, bench, demo, doctor, gateway, hub, roster, silo, verify
from siloquy.cli.output import command, show_error
from siloquy.errors import UsageError

# What typer raises for a malformed call: the base of the one such class that it makes public.
_MALFORMED: type[Exception] = typer.BadParameter.__mro__[1]

EXIT_CODES = (
    "Exit codes: 0 ok, 2 usage, 3 settings, 4 unreachable, 5 denied by policy, 6 integrity, "
    "7 abstained, 8 partial (a chosen silo is missing), 9 storage."
)

app = typer.Typer(
    name="siloquy",
    help="Ask one clinical question across hospitals that never pool their documents.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"siloquy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Ask one clinical question across hospitals that never pool their documents."""


command(app, "demo")(demo.demo)
command(app, "ask")(ask.ask)
command(app, "verify")(verify.verify)
command(app, "doctor")(doctor.doctor)
app.add_typer(silo.app, name="silo")
app.add_typer(hub.app, name="hub")
app.add_typer(gateway.app, name="gateway")
app.add_typer(roster.app, name="roster")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; a malformed call is one JSON object too where ``--json`` is given."""
    if "--json" not in sys.argv:
        app()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _MALFORMED as error:
        show_error(UsageError(str(error), "siloquy --help"), as_json=True)
        sys.exit(UsageError.exit_code)
    except typer.Abort:
        show_error(UsageError("aborted", "answer the question, or say --yes"), as_json=True)
        sys.exit(UsageError.exit_code)
