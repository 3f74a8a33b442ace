"""Who asks: whose conversations, which name in the silos' ledgers, which roles."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from siloquy.types import SiteRole

ROLES: tuple[SiteRole, ...] = get_args(SiteRole)
ALL_ROLES = frozenset(ROLES)
KEY_ROLES: frozenset[SiteRole] = frozenset({"clinician", "evaluator"})
_NOT_IN_LEDGERS = re.compile(r"[^A-Za-z0-9._@-]+")
_MOST_NAME_CHARACTERS = 48
MOST_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Requester:
    """Somebody who may call.

    owner   whose conversations and streams these are; no two people ever have the same
    name    as the silos' ledgers show it
    shown   as the page shows it
    """

    owner: str
    name: str
    shown: str
    roles: frozenset[SiteRole]


# Everybody at a gateway without sign-in.
LOCAL = Requester("local", "local", "local", ALL_ROLES)


def of_key(name: str) -> Requester:
    """The holder of an API key; its name has no colon, so no account's owner is the same."""
    return Requester(name, name, name, KEY_ROLES)


def of_account(account_id: str, name: str, shown: str, roles: Iterable[SiteRole]) -> Requester:
    """The holder of an account: by its id, so that a later one of the same name is another."""
    return Requester(f"account:{account_id}", name, shown or name, frozenset(roles))


def of_provider(
    issuer: str, subject: str, name: str, shown: str, roles: Iterable[SiteRole]
) -> Requester:
    """Somebody whom an OpenID provider vouches for.

    Only issuer and subject together are stable and unique. So the ledgers' name ends with eight
    digits of their hash, after a space, which the names of keys and accounts cannot hold.

    >>> of_provider("https://id.example", "7", "Anna Ito", "Anna", ()).name
    'Anna.Ito cf882fa9'
    """
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode()).hexdigest()
    plain = _NOT_IN_LEDGERS.sub(".", unicodedata.normalize("NFKC", name)).strip(".")
    readable = plain[:_MOST_NAME_CHARACTERS] or "person"
    return Requester(
        f"oidc:{digest}",
        f"{readable} {digest[:8]}",
        shown_name(shown) or readable,
        frozenset(roles),
    )


def shown_name(text: str) -> str:
    """A name as the page may show it: one line, without control characters, not too long."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", text) if c.isprintable())
    return " ".join(plain.split())[:MOST_SHOWN_CHARACTERS]


def as_text(roles: Iterable[SiteRole]) -> str:
    """Roles in one word each, in the order of ``ROLES``."""
    held = set(roles)
    return " ".join(role for role in ROLES if role in held)


def from_text(text: str) -> frozenset[SiteRole]:
    """Roles from what ``as_text`` gave; what is no role any more is left out."""
    held = text.split()
    return frozenset(role for role in ROLES if role in held)
