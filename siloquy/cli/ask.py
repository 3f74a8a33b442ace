"""``siloquy ask``: one question to a running gateway, its answer printed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.panel import Panel

from siloquy.cli.output import Json, out, print_json
from siloquy.errors import (
    EXIT_ABSTAINED,
    EXIT_PARTIAL,
    Unreachable,
    UsageError,
)
from siloquy.serve import local

ASK_TIMEOUT_S = 60.0

Mode = Annotated[
    Literal["open", "sealed"] | None,
    typer.Option(help="How silos score the question: open, they read it; sealed, they cannot."),
]
Route = Annotated[
    Literal["auto", "all"] | None, typer.Option(help="Let the router choose, or ask all silos.")
]
Intent = Annotated[
    Literal["precise", "diverse", "fast"] | None,
    typer.Option(help="Keep the promise, hear several hospitals, or answer quickly."),
]
Why = Annotated[bool, typer.Option("--why", help="Show why each silo was asked or left out.")]


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    gateway: Annotated[
        str, typer.Option(envvar="SILOQUY_GATEWAY", help="The gateway's address.")
    ] = "http://127.0.0.1:8080",
    mode: Mode = None,
    route: Route = None,
    intent: Intent = None,
    k: Annotated[int | None, typer.Option(help="Passages wanted of all silos together.")] = None,
    why: Why = False,
    key_file: Annotated[
        Path | None, typer.Option(help="File with an API key; else SILOQUY_API_KEY holds it.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask a running gateway."""
    body = body_of(question, mode=mode, route=route, intent=intent, k=k)
    raise typer.Exit(ask_and_print(gateway, body, why=why, json=json, key=api_key(key_file)))


def body_of(question: str, **options: object) -> dict[str, Any]:
    """What is sent; what is left out is the gateway's choice."""
    return {"question": question} | {name: v for name, v in options.items() if v is not None}


def api_key(file: Path | None) -> str:
    """The API key to send; empty for none."""
    if file is None:
        return os.environ.get("SILOQUY_API_KEY", "").strip()
    try:
        return file.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise UsageError(f"{file} holds no API key", "write the key alone into it") from None


def ask_and_print(url: str, body: dict[str, Any], *, why: bool, json: bool, key: str = "") -> int:
    """Print the answer; the exit code: 0, 7 abstained, 8 partial (also when no silo took part)."""
    answer = local.post(f"{url}/v1/ask", body, ASK_TIMEOUT_S, key)
    if not {"answer", "plan", "receipt"} <= answer.keys():
        raise Unreachable(f"what answers at {url} is no gateway", "name a gateway's address")
    if json:
        print_json(answer)
    else:
        _show(answer, why=why)
    heard = set(answer["plan"]["asked"]) - {item["silo"] for item in answer["missing"]}
    if answer["abstained"] and heard:
        return EXIT_ABSTAINED
    return EXIT_PARTIAL if answer["missing"] else 0


def _show(answer: dict[str, Any], *, why: bool) -> None:
    text = "\n".join(
        f"{escape(item['text'])} [cyan]{escape(''.join(f'[{n}]' for n in item['citations']))}[/]"
        for item in answer["sentences"]
    )
    title = "abstained" if answer["abstained"] else "answer"
    panel = Panel(text or escape(answer["answer"]), title=title, title_align="left")
    out.print(panel, soft_wrap=False)
    cited = {n for item in answer["sentences"] for n in item["citations"]}
    for source in answer["sources"]:
        style = "" if source["n"] in cited else "dim"
        name = source["title"] or source["document"]
        told = ", ".join(filter(None, (name, source.get("section"), source.get("dated"))))
        out.print(
            f"[{style or 'default'}][cyan]\\[{source['n']}][/] {source['silo']}  "
            f"{escape(told)}  "
            f"({escape(source['document'])} {source['start']}-{source['end']}, "
            f"score {source['score']:.2f})[/]"
        )
    _show_conflicts(answer)
    _show_plan(answer, why=why)


def _show_conflicts(answer: dict[str, Any]) -> None:
    """What the reader must weigh, the passages' own words side by side."""
    sources = {source["n"]: source for source in answer["sources"]}
    for item in answer["conflicts"]:
        out.print(f"\n[yellow]{item['kind']}[/]  {escape(item['detail'])}")
        for side in item["sides"]:
            source = sources[side["n"]]
            said = " ".join(source["text"][side["start"] : side["end"]].split())
            out.print(f"  [cyan]\\[{side['n']}][/] {source['silo']}: {escape(said)}")


def _show_plan(answer: dict[str, Any], *, why: bool) -> None:
    plan = answer["plan"]
    if answer["mode"] == "sealed":
        out.print("mode      sealed: no silo could read the question")
    _show_asked("asked", plan["asked"], plan["reasons"] if why else {})
    _show_asked("skipped", plan["skipped"], plan["reasons"] if why else {})
    if plan["skipped"] or plan["coverage"]:
        out.print(f"coverage  {_promise(plan)}")
    if plan["audit"]:
        out.print("audit     all silos were asked to check what the router promises")
    for item in answer["missing"]:
        out.print(f"[red]missing[/]   {item['silo']}: {item['reason']}. {escape(item['detail'])}")
    for silo, reason in answer["flagged"].items():
        out.print(f"[yellow]flagged[/]   {silo} {escape(reason)}")
    left = ", ".join(f"{silo} {n}" for silo, n in answer["released"].items() if n)
    out.print(f"released  {left or 'nothing'}")
    held = ", ".join(f"{silo} {n}" for silo, n in answer["withheld"].items())
    if held:
        out.print(f"withheld  {held}")
    parts = [item["question"] for item in answer["rounds"] if item["kind"] == "part"]
    if parts:
        out.print(f"in parts  {escape(' | '.join(parts))}")
    for suggestion in answer.get("suggestions", ()):
        out.print(f"ask next  {escape(suggestion)}")
    for note in answer["notes"]:
        out.print(f"[yellow]note[/]      {escape(note)}")
    out.print(f"in {answer['timings_ms']['total']:.0f} ms by {escape(answer['model'])}")
    out.print("[dim]Decision support: verify in the sources before acting.[/]")


def _show_asked(word: str, silos: list[str], reasons: dict[str, str]) -> None:
    """Names in a line or, with reasons, one a line."""
    if silos and not reasons:
        out.print(f"{word:<10}{', '.join(silos)}")
    for silo in silos if reasons else ():
        out.print(f"{word:<10}{silo}: {escape(reasons.get(silo) or 'no reason given')}")


def _promise(plan: dict[str, Any]) -> str:
    """What may be expected of the silos that were asked, in words."""
    if plan["coverage"] is None:
        return "no promise yet; `siloquy gateway router` tells why"
    return f"{100 * plan['coverage']:.0f} % of the best passages, promised on average"
