"""A conversation to take away, as Markdown that shows plainly whatever a text holds. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from siloquy.gateway.api.conversations import Conversation, KeptTurn, Reference

NOTICE = "Decision support: verify in the sources before acting."
_UNANSWERED = {"asking": "still being answered", "unanswered": "not answered"}
# What Markdown would read as markup or as a link, wherever it stands.
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~-])")


def markdown(conversation: Conversation, turns: Sequence[KeptTurn]) -> str:
    """The conversation with its references, each question a heading."""
    title = conversation.title or "Conversation"
    parts = [f"# {_plain(title)}", f"{_day(conversation.created)}. {NOTICE}"]
    for turn in turns:
        parts += _turn(turn)
    return "\n\n".join(parts) + "\n"


def _turn(turn: KeptTurn) -> list[str]:
    parts = [f"## {_plain(turn.question)}"]
    if turn.understood and turn.understood != turn.question:
        parts.append(f"Asked as: {_plain(turn.understood)}")
    parts.append(
        _plain(turn.answer) if turn.state == "answered" else f"({_UNANSWERED[turn.state]})"
    )
    if turn.sources:
        parts.append("\n".join(_reference(source) for source in turn.sources))
    if turn.missing:
        gone = ", ".join(f"{_plain(item.silo)} ({item.reason})" for item in turn.missing)
        parts.append(f"Missing: {gone}")
    if turn.query_id:
        parts.append(f"Question {turn.query_id}, {_day(turn.asked)}")
    return parts


def _reference(source: Reference) -> str:
    parts = [
        _plain(source.title or source.document),
        _plain(source.section) and f"section {_plain(source.section)}",
        _plain(source.dated) and f"dated {_plain(source.dated)}",
        _plain(source.silo),
        _plain(source.document),
        f"characters {source.start} to {source.end}",
    ]
    return f"- \\[{source.n}\\] {', '.join(filter(None, parts))}"


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
