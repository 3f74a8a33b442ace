"""``siloquy gateway router | pardon | calibrate``: what the router has learnt, and teaching it."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from siloquy import settings as settings_files
from siloquy.cli.ask import api_key
from siloquy.cli.output import Folder, Json, err, out, print_json, table
from siloquy.errors import SettingsError, UsageError
from siloquy.process import now_ms
from siloquy.router.experience import ROUTER_FILE
from siloquy.serve import local
from siloquy.settings import GatewaySettings
from siloquy.types import NodeId

if TYPE_CHECKING:
    from siloquy.router.account import RouterReport, SiloReport

AUDIT_TIMEOUT_S = 120.0


def show(folder: Folder, json: Json = False) -> None:
    """What is promised or why nothing is, and what each silo's word has been worth."""
    from siloquy.router import account

    path, settings = _router_file(folder)
    found = account.read(path, settings.ask, now_ms())
    if json:
        print_json(found)
        return
    out.print(f"questions  {found.questions:,} remembered, {found.audits:,} audits that count")
    for intent, share in found.promised.items():
        wanted = settings.ask.fast_coverage if intent == "fast" else settings.ask.coverage
        out.print(f"{intent:<11}{_promise(found, share, account.least_audits(wanted))}")
    if not found.silos:
        out.print("no silo has been checked yet")
        return
    rows = table("silo", "asked", "verified", "strikes", "may win", "probes met")
    for silo in found.silos:
        rows.add_row(*_row(silo, settings.ask.k))
    out.print(rows)
    for silo in found.silos:
        if not silo.asked:
            out.print(f"to ask it again: siloquy gateway pardon {silo.silo} --folder {folder}")


def _promise(found: RouterReport, share: float | None, needed: int) -> str:
    if share is not None:
        return f"{100 * share:g} % of the best passages, promised on average"
    if found.broken:
        return f"the promise broke: all silos are asked until {found.audits} of {needed} audits"
    return f"no promise yet: {found.audits} of {needed} audits"


def _row(silo: SiloReport, k: int) -> tuple[str, ...]:
    probe = "none yet" if silo.probe is None else f"{100 * silo.probe:.0f} %"
    wins, asked = f"{silo.wins} of {k}", "yes" if silo.asked else "[red]no[/]"
    return (silo.silo, asked, f"{silo.verified:,}", str(silo.strikes), wins, probe)


def pardon(
    silo: Annotated[str, typer.Argument(help="The silo whose strikes and probes are forgotten.")],
    folder: Folder,
    json: Json = False,
) -> None:
    """Begin anew with a silo whose claims did not fit; a running gateway hears of it in a while."""
    from siloquy.router.experience import Experience

    path, _ = _router_file(folder)
    experience = Experience(path)
    done = experience.pardon(NodeId(silo))
    experience.close()
    if not done:
        raise UsageError(f"nothing is held against {silo}", "`siloquy gateway router` lists silos")
    if json:
        print_json({"silo": silo, "pardoned": True})
        return
    out.print(f"what {escape(silo)} has claimed is forgotten, good and bad")
    err.print("a running gateway acts on it after the next question whose passages it has checked")


def calibrate(
    questions: Annotated[
        Path, typer.Argument(help="Questions as they are asked here: one a line, or BEIR's .jsonl.")
    ],
    folder: Folder,
    gateway: Annotated[
        str | None, typer.Option(envvar="SILOQUY_GATEWAY", help="The gateway's address.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with an API key; else SILOQUY_API_KEY holds it.")
    ] = None,
    json: Json = False,
) -> None:
    """Let a running gateway learn from past questions: every silo is asked, no passage leaves."""
    from siloquy.router import account

    path, settings = _router_file(folder)
    asked = read_questions(questions)
    url = gateway or f"http://{settings.listen.host}:{settings.listen.port}"
    needed = account.least_audits(settings.ask.coverage)
    before = account.read(path, settings.ask, now_ms()).audits
    if before + len(asked) < needed:
        err.print(
            f"[yellow]warning[/] {len(asked)} questions are too few: {needed} carry a promise"
        )
    counted = _ask_all(f"{url}/v1/audit", asked, api_key(key_file))
    found = account.read(path, settings.ask, now_ms())
    if json:
        print_json({"asked": len(asked), "counted": counted, "audits": found.audits})
        return
    out.print(f"{counted:,} of {len(asked):,} questions count: every silo answered them")
    out.print(f"precise    {_promise(found, found.promised['precise'], needed)}")


def _ask_all(url: str, questions: Iterable[str], key: str) -> int:
    """How many of the questions every silo answered."""
    counted = 0
    with Progress(console=err, transient=True) as progress:
        for question in progress.track(list(questions), description="asking all silos"):
            reply: dict[str, Any] = local.post(url, {"question": question}, AUDIT_TIMEOUT_S, key)
            counted += not reply["missing"] and any(reply["held"].values())
    return counted


def read_questions(path: Path) -> list[str]:
    """Each question once, in order; of ``.jsonl`` lines the field ``text``."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line]
        if path.suffix == ".jsonl":
            lines = [str(json_text.loads(line)["text"]).strip() for line in lines]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} holds no questions", 'one a line, or lines such as {"text": "..."} in .jsonl'
        ) from None
    if not lines:
        raise UsageError(f"{path} is empty", "write one question a line")
    return list(dict.fromkeys(lines))


def _router_file(folder: Path) -> tuple[Path, GatewaySettings]:
    settings = settings_files.read(GatewaySettings, folder)
    path = folder / ROUTER_FILE
    if not path.exists():
        raise SettingsError(f"{path} is missing", "the router begins to learn with `gateway serve`")
    return path, settings
