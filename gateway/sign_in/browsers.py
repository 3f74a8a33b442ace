"""Marks of browsers on which somebody has signed in: no stranger's attempts make those wait. Pure.

A browser keeps, for each account, a random number and its HMAC under the hash of the account's
password. So nobody makes a mark without the password, and another password ends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

# A ward's computer is many people's; the account that was used first is forgotten first.
MOST_ACCOUNTS = 8
NUMBER_BYTES = 16
KNOWN_FOR_S = 180 * 86_400
_MARK = re.compile(r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}")


def number_of(marks: str, kept: str) -> str:
    """The number under which the account with this hash knows the browser; empty when it does not.

    marks   as the browser sent them

    >>> marks = marked("", "hash", bytes(16))
    >>> number_of(marks, "hash") == marks.partition(".")[0], number_of(marks, "another")
    (True, '')
    """
    found = ""
    for mark in _read(marks):
        number, _, proof = mark.partition(".")
        # All are looked at: how long it takes tells nothing of which one it was.
        if hmac.compare_digest(proof, _proof(number, kept)):
            found = number
    return found


def marked(marks: str, kept: str, drawn: bytes) -> str:
    """The marks with one of the account with this hash; as they are when there is one.

    drawn   random, ``NUMBER_BYTES``

    >>> two = marked(marked("", "hash", bytes(16)), "another", bytes(16))
    >>> two.count("~"), marked(two, "hash", bytes(16)) == two
    (1, True)
    """
    before = _read(marks)
    if number_of(marks, kept):
        return "~".join(before)
    number = _text(drawn)
    return "~".join([*before, f"{number}.{_proof(number, kept)}"][-MOST_ACCOUNTS:])


def _read(marks: str) -> list[str]:
    return [
        mark for mark in marks.split("~", MOST_ACCOUNTS)[:MOST_ACCOUNTS] if _MARK.fullmatch(mark)
    ]


def _proof(number: str, kept: str) -> str:
    message = b"siloquy known browser " + number.encode()
    return _text(hmac.digest(kept.encode(), message, hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
