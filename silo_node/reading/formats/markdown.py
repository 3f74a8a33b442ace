"""Markdown: its first heading of the first level is its title."""

from __future__ import annotations

import re

from siloquy.silo_node.reading.formats.plain import decode

_HEADING = re.compile(r"^#[ \t]+(\S.*)\n?", re.MULTILINE)


def read(data: bytes, stem: str) -> tuple[str, str]:
    """Title and text of a Markdown file; the title's heading leaves the text."""
    text = decode(data)
    heading = _HEADING.search(text)
    if heading is None:
        return "", text.strip()
    return heading[1], (text[: heading.start()] + text[heading.end() :]).strip()
