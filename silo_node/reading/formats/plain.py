"""Plain text: a short first line is its title.

Encodings are not guessed: a wrong guess turns a dose or a name into another one without a sound.
"""

from __future__ import annotations

import re

from siloquy.silo_node.reading.document import Unusable
from siloquy.text.words import clean

TITLE_CHARACTERS = 120

_FIRST_LINE = re.compile(r"\s*(\S.*)\n?")


def read(data: bytes, stem: str) -> tuple[str, str]:
    """Title and text of a text file."""
    text = decode(data)
    first = _FIRST_LINE.match(text)
    rest = text[first.end() :].strip() if first else ""
    # A note of one line is its text: a title alone would leave nothing to find.
    if first is None or not rest or len(first[1].rstrip()) > TITLE_CHARACTERS:
        return "", text.strip()
    return first[1], rest


def decode(data: bytes) -> str:
    """The cleaned text of UTF-8 ``data``; raises Unusable for anything else."""
    try:
        return clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unusable("not UTF-8 text") from None
