"""``siloquy silo``: what a hospital's IT runs."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from siloquy import settings as settings_files
from siloquy.cli import silo_console
from siloquy.cli.output import (
    Folder,
    Json,
    command,
    err,
    log_to_stderr,
    out,
    print_json,
    read_json,
    table,
)
from siloquy.errors import IntegrityError, UsageError
from siloquy.process import alone, now_ms
from siloquy.serve import nodes
from siloquy.settings import ReleasePolicy, SiloSettings
from siloquy.text.embed import embedder, model_folder
from siloquy.trust import identity as identities
from siloquy.trust import ledger, receipt
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import membership
from siloquy.types import DocumentId

app = typer.Typer(help="A hospital's node: its documents, index, policy and ledger.")


@command(app, "init")
def init(
    name: Annotated[str, typer.Option(help="Node name in the federation.")],
    folder: Folder,
    organisation: Annotated[str, typer.Option(help="Who runs it.")],
    gateway: Annotated[
        list[str] | None,
        typer.Option(help="A gateway that may ask; repeat. None: nothing leaves."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a silo: keys that never leave this folder, and settings to edit."""
    policy = ReleasePolicy(gateways=tuple(gateway or ()))
    identity = nodes.init_silo(folder, name, organisation, SiloSettings(policy=policy))
    show_made(folder, identity, json)


def show_made(folder: Path, identity: identities.Identity, json: bool) -> None:
    """A fresh node's fingerprint and where it lies."""
    made = {
        "node": identity.node,
        "role": identity.card.role,
        "fingerprint": fingerprint(identity.card.signing_key),
        "folder": str(folder),
    }
    if json:
        print_json(made)
        return
    out.print(f"{made['role']} [bold]{made['node']}[/] made in {escape(str(folder))}")
    out.print(f"fingerprint  [bold]{made['fingerprint']}[/]")
    out.print(f"settings     {escape(str(folder / settings_files.FILE_NAME))}")


@command(app, "enroll")
def enroll(
    token: Annotated[str, typer.Argument(help="The invitation from `siloquy hub invite`.")],
    folder: Folder,
    federation: Annotated[
        str | None, typer.Option(help="Federation fingerprint that a founder told you.")
    ] = None,
    json: Json = False,
) -> None:
    """Use a one-time invitation; the founders' signatures then let the node in."""
    enrolled(token, folder, federation, json)


def enrolled(token: str, folder: Path, federation: str | None, json: bool) -> None:
    """Enrol and show what to compare out of band."""
    roster = asyncio.run(nodes.enrol(folder, token, federation))
    own = fingerprint(identities.load(folder).card.signing_key)
    if json:
        print_json({"federation": roster.fingerprint, "fingerprint": own, "waiting": True})
        return
    out.print(f"federation   {roster.roster.federation}  [bold]{roster.fingerprint}[/]")
    out.print(f"this node    [bold]{own}[/]")
    if federation is None:
        out.print(
            "Compare the federation's fingerprint with a founder by telephone before serving."
        )
    out.print("Tell a founder this node's fingerprint: it serves once they have signed it in.")


@command(app, "ingest")
def ingest(
    source: Annotated[Path, typer.Argument(help="A folder, a file or a BEIR corpus folder.")],
    folder: Folder,
    only: Annotated[
        str | None, typer.Option(help="Of a BEIR corpus, only records with this source.")
    ] = None,
    collection: Annotated[
        str,
        typer.Option(help="What policies call these documents; else their metadata `collection`."),
    ] = "",
    json: Json = False,
) -> None:
    """Bring the silo up to date with SOURCE; unchanged documents cost nothing."""
    from siloquy.silo_node.chunk import load_tokens
    from siloquy.silo_node.ingest import ingest as run
    from siloquy.silo_node.profiler import describe
    from siloquy.silo_node.reading.walk import read
    from siloquy.silo_node.store import Store

    if not source.exists():
        raise UsageError(f"{source} does not exist")
    identities.load(folder)
    settings = settings_files.read(SiloSettings, folder)
    tokens = load_tokens(model_folder(settings.encoder) / "tokenizer.json")
    store = Store(folder / "silo.sqlite")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("reading")
        done = [0]

        def count(n: int) -> None:
            done[0] += n
            progress.update(bar, description=f"embedded {done[0]:,} passages")

        encoder = embedder(settings.encoder, folder, count)
        chunk_tokens = settings.index.chunk_tokens
        report = run(store, read(source, only, collection), encoder, tokens, chunk_tokens)
        report = replace(report, embedded=encoder.computed, encoder_s=encoder.compute_s)
        progress.update(bar, description="describing the content")
        renewal = describe(store, encoder, settings.profile, now_ms)
    report = replace(report, profile=renewal)
    store.close()
    if json:
        print_json(report)
        return
    out.print(
        f"added {report.added:,}  replaced {report.replaced:,}  unchanged {report.unchanged:,}  "
        f"passages {report.passages:,}  quarantined {len(report.rejected):,}  "
        f"in {report.total_s:.1f} s"
    )
    if renewal == "made":
        out.print("a new noised profile was made; `siloquy silo profile` shows what it tells")
    if renewal == "spent":
        err.print("the profile stays as it was: this year's privacy budget is spent")
    for item in report.rejected[:20]:
        out.print(f"  quarantined {escape(item.source)}: {escape(item.reason)}")


@command(app, "delete")
def delete(
    document: Annotated[
        list[str], typer.Argument(help="Document ids; `silo status --documents` lists them.")
    ],
    folder: Folder,
    json: Json = False,
) -> None:
    """Delete documents with their passages, vectors and index entries."""
    from siloquy.silo_node.ingest import remove
    from siloquy.silo_node.store import Store

    identities.load(folder)
    settings = settings_files.read(SiloSettings, folder)
    store = Store(folder / "silo.sqlite")
    gone = remove(store, [DocumentId(item) for item in document])
    store.close()
    missing = [item for item, count in gone.items() if count < 0]
    if json:
        print_json({"deleted": {k: v for k, v in gone.items() if v >= 0}, "unknown": missing})
    else:
        for item, count in gone.items():
            text = "not here" if count < 0 else f"deleted with {count} passages"
            out.print(f"{escape(item)}: {text}")
        err.print("what its source still holds comes back with the next ingest")
        if settings.profile.epsilon < math.inf:
            err.print("the noised profile stays as it is until a new one is due")
    if missing:
        raise typer.Exit(UsageError.exit_code)


@command(app, "status")
def status(
    folder: Folder,
    documents: Annotated[bool, typer.Option(help="List the documents' ids too.")] = False,
    json: Json = False,
) -> None:
    """What the silo holds, whom it answers, what has left it."""
    from siloquy.silo_node import pause as pause_switch
    from siloquy.silo_node import spending
    from siloquy.silo_node.store import Store

    settings = settings_files.read(SiloSettings, folder)
    identity = identities.load(folder)
    store = Store(folder / "silo.sqlite")
    paused = pause_switch.current(store.connection)
    counts = store.counts()
    releases = list(ledger.entries(store.connection))
    rejected = store.quarantined()
    ids = sorted(store.recipe_hashes()) if documents else []
    store.close()
    shown: dict[str, Any] = {
        "node": identity.node,
        "fingerprint": fingerprint(identity.card.signing_key),
        "documents": counts.documents,
        "passages": counts.passages,
        "documents_without_consent": counts.withdrawn,
        "quarantined": {item.source: item.reason for item in rejected},
        "gateways": settings.policy.gateways,
        "privacy": spending.line(settings.profile),
        "ledger_entries": len(releases),
        "passages_released": sum(len(entry.passages) for entry in releases),
        "rostered": membership(folder, identity.card),
        "paused": paused,
    }
    if documents:
        shown["document_ids"] = ids
    if json:
        print_json(shown)
        return
    rows = table("", "")
    for key, value in shown.items():
        if key == "quarantined":
            value = f"{len(rejected)}" + "".join(f"\n{r.source}: {r.reason}" for r in rejected[:20])
        if key == "document_ids":
            value = "\n".join(ids)
        if key == "gateways":
            value = ", ".join(value) or "none: nothing leaves"
        if key == "paused":
            value = f"[red]{escape(silo_console.told(paused))}[/]" if paused else "no"
        rows.add_row(key.replace("_", " "), value if key == "paused" else escape(str(value)))
    out.print(rows)


@command(app, "profile")
def profile(
    folder: Folder,
    renew: Annotated[
        bool, typer.Option(help="Make a new noised one now, if this year's budget allows it.")
    ] = False,
    json: Json = False,
) -> None:
    """What approved gateways are told of the silo's content, and what of its budget is spent."""
    from siloquy.cli import silo_profile

    identities.load(folder)
    told = silo_profile.described(folder, renew)
    if json:
        print_json(told)
    else:
        silo_profile.show(told)


@command(app, "serve")
def serve(folder: Folder) -> None:
    """Answer questions; the silo dials out to its hub and opens no port."""
    log_to_stderr()
    from siloquy.serve.silo import serve_silo

    with alone(folder):
        asyncio.run(serve_silo(folder))


@command(app, "verify")
def verify(
    folder: Folder,
    receipts: Annotated[
        list[Path] | None, typer.Option("--receipt", help="An answer or receipt to compare.")
    ] = None,
    json: Json = False,
) -> None:
    """Check ledger, budget, store and passages, and the ledger heads that receipts hold."""
    from siloquy.silo_node.release import check_books
    from siloquy.silo_node.store import Store

    identity = identities.load(folder)
    heads = [
        head
        for path in receipts or ()
        for head in receipt.heads(read_json(path))
        if head.silo == identity.node
    ]
    store = Store(folder / "silo.sqlite")
    try:
        entries = ledger.check(store.connection, tuple(heads))
        check_books(store.connection)
        store.verify()
    except Exception as error:
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(
            f"the store is damaged: {type(error).__name__}",
            "restore it from a backup, or ingest again into a fresh folder",
        ) from None
    finally:
        store.close()
    if json:
        print_json({"ledger_entries": entries, "heads_compared": len(heads), "store": "ok"})
        return
    out.print(
        f"ledger holds, {entries} entries; {len(heads)} heads compared; store and index agree"
    )


command(app, "pause")(silo_console.pause)
command(app, "resume")(silo_console.resume)
command(app, "console")(silo_console.console)
