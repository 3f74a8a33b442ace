"""``siloquy silo profile``: what a silo tells approved gateways of its content, in plain words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from siloquy import settings as settings_files
from siloquy.cli.output import out, table
from siloquy.errors import UsageError
from siloquy.process import now_ms
from siloquy.settings import SiloSettings
from siloquy.silo_node import spending
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.sketch import Content
from siloquy.silo_node.store import Store
from siloquy.text import topics as topic_lists
from siloquy.text.embed import encoder_spec

TOPICS_SHOWN = 10
# Above so many standard deviations a topic is hardly there by noise alone.
SURE = 3.0
_NEVER = "No text, no word, no name and no document id is in it."


def described(folder: Path, renew: bool) -> dict[str, Any]:
    """What the silo in ``folder`` tells; with ``renew`` of a noised profile that is made first.

    BudgetExhausted when the year's budget allows no new one, UsageError when there is nothing to
    make one of.
    """
    settings = settings_files.read(SiloSettings, folder)
    store = Store(folder / "silo.sqlite")
    try:
        profiler = Profiler(store, encoder_spec(settings.encoder), settings.profile, now_ms)
        if renew:
            _renew(profiler)
        return {
            **spending.told(profiler, settings.profile, now_ms()),
            **_content(profiler.told()),
            "size": store.counts().passages,
            "gateways": settings.policy.gateways,
        }
    finally:
        store.close()


def _renew(profiler: Profiler) -> None:
    if not profiler.noised:
        raise UsageError("profile.epsilon is inf: without noise a profile follows the content")
    if not profiler.make():
        raise UsageError("there is nothing to describe yet", "run `siloquy silo ingest` first")


def _content(content: Content) -> dict[str, Any]:
    near = np.frombuffer(content.topics, dtype="<f2").astype(np.float64)
    most = [int(place) for place in np.argsort(-near, kind="stable")[:TOPICS_SHOWN]]
    return {
        "size_told": content.size,
        "means": len(content.counts),
        "topics": [
            {
                "topic": topic_lists.names()[place],
                "documents": round(float(near[place]), 1),
                "sure": bool(near[place] > SURE * content.topic_noise),
            }
            for place in most
        ],
    }


def show(told: dict[str, Any]) -> None:
    """The same for people."""
    readers = ", ".join(told["gateways"])
    out.print(f"What this silo tells of its content to {readers or 'nobody: no gateway approved'}")
    rows = table("", "")
    rows.add_row("protected by", told["privacy"])
    if told["noised"]:
        most = "no limit" if told["yearly"] is None else f"{told['yearly']:g} a year"
        rows.add_row(f"spent in {told['year']}", f"epsilon {_number(told['spent'])} of {most}")
        rows.add_row("made", _made(told["made"]))
    rows.add_row("size", f"{told['size_told']:,} passages are told, {told['size']:,} are here")
    rows.add_row("means", f"{told['means']} of the passages' vectors")
    for item in told["topics"]:
        doubt = "" if item["sure"] else "  may be noise alone"
        rows.add_row(f"{item['documents']:,.1f} documents", f"{item['topic']}{doubt}")
    out.print(rows)
    words = "" if told["noised"] or not told["means"] else " and how often common words occur"
    out.print(f"That is size, nearness to {len(topic_lists.names())} public topics, means{words}.")
    out.print(_NEVER if not words else _NEVER.replace("no word, ", ""))


def _number(number: float | None) -> str:
    return "over 5,000" if number is None else f"{number:g}"


def _made(made: int | None) -> str:
    if made is None:
        return "not yet: only whether the silo is empty is told"
    when = datetime.fromtimestamp(made / 1000, UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC; the same one is sent until the next is due"
