"""What an OpenID provider's ID token says, once everything in it has been checked.

OpenID Connect Core 1.0, section 3.1.3.7. Pure: keys and time are arguments.
"""

from __future__ import annotations

import hmac
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import KeySet

from siloquy.errors import IntegrityError
from siloquy.gateway.sign_in.people import ROLES
from siloquy.types import SiteRole

# Signatures of a key pair alone: with HS256 who knows the client's secret could sign in as anybody.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
LEEWAY_S = 60
# A token is fetched at once with its code; an older one comes from elsewhere.
MOST_AGE_S = 600
MOST_TOKEN_CHARACTERS = 64 * 1024
_KEY_TYPES = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP"}


class UnknownKey(IntegrityError):
    """The token is signed by a key that the key set does not hold; it may be a new one."""


@dataclass(frozen=True, slots=True)
class TokenExpectation:
    """What a token must say."""

    issuer: str
    client_id: str
    nonce: str


def check(token: str, keys: KeySet, expected: TokenExpectation, now_s: int) -> dict[str, object]:
    """The token's claims; IntegrityError when anything in it does not hold.

    UnknownKey when its key is not among ``keys``. No message repeats what the token says.
    """
    if len(token) > MOST_TOKEN_CHARACTERS:
        raise IntegrityError("the provider's ID token is too long")
    claims = _opened(token, keys)
    _check_party(claims, expected)
    _check_times(claims, now_s)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(
        nonce.encode("utf-8", "replace"), expected.nonce.encode()
    ):
        raise IntegrityError("the ID token was made for another sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise IntegrityError("the ID token names nobody")
    return claims


def _opened(token: str, keys: KeySet) -> dict[str, object]:
    """The claims of a token whose signature holds."""
    try:
        header = jws.extract_compact(token.encode()).headers()
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise IntegrityError("the ID token is signed in a way that is not taken")
        fitting = [key for key in keys.keys if key.key_type == _KEY_TYPES[algorithm]]
        named = [key for key in fitting if header.get("kid") in (None, key.kid)]
        if not named or (len(named) > 1 and "kid" not in header):
            raise UnknownKey("the ID token's key is not among the provider's")
        with warnings.catch_warnings():
            # RFC 9864 gives EdDSA new names; providers still use the old one.
            warnings.simplefilter("ignore", SecurityWarning)
            return dict(jwt.decode(token, KeySet(named), algorithms=[algorithm]).claims)
    except InvalidKeyIdError:
        raise UnknownKey("the ID token's key is not among the provider's") from None
    except (JoseError, ValueError, TypeError):
        # The library's words may quote the token.
        raise IntegrityError("the ID token's signature does not hold") from None


def _check_party(claims: Mapping[str, object], expected: TokenExpectation) -> None:
    if claims.get("iss") != expected.issuer:
        raise IntegrityError("the ID token is of another issuer")
    audience = claims.get("aud")
    told = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in told:
        raise IntegrityError("the ID token is for another client")
    party = claims.get("azp")
    if party != expected.client_id and (party is not None or len(told) > 1):
        raise IntegrityError("the ID token was given to another client")


def _check_times(claims: Mapping[str, object], now_s: int) -> None:
    expires, issued = claims.get("exp"), claims.get("iat")
    if not _is_time(expires) or not _is_time(issued):
        raise IntegrityError("the ID token does not say when it was made and ends")
    begins = claims.get("nbf", issued)
    if not _is_time(begins) or max(issued, begins) > now_s + LEEWAY_S:
        raise IntegrityError("the ID token is not valid yet: do the clocks differ?")
    if expires <= now_s - LEEWAY_S or issued < now_s - MOST_AGE_S:
        raise IntegrityError("the ID token has expired")


def _is_time(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- what it says of the person -------------------------------------------------------------------


def text_of(claims: Mapping[str, object], claim: str) -> str:
    """A claim that is a text; empty when there is none."""
    value = claims.get(claim)
    return value.strip() if isinstance(value, str) else ""


def roles_of(
    claims: Mapping[str, object], claim: str, names: Mapping[str, str]
) -> frozenset[SiteRole]:
    """Our roles among those that the token lists under ``claim``.

    claim   a claim's name, or a path of names with dots between
    names   ours by the provider's; empty when they are equal

    >>> sorted(roles_of({"realm": {"roles": ["auditor", "x"]}}, "realm.roles", {}))
    ['auditor']
    >>> sorted(roles_of({"groups": "doctors"}, "groups", {"doctors": "clinician"}))
    ['clinician']
    """
    told = claims.get(claim, _at(claims, claim.split(".")))
    listed = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    held = {names.get(item, "") if names else item for item in listed if isinstance(item, str)}
    return frozenset(role for role in ROLES if role in held)


def _at(claims: Mapping[str, object], path: list[str]) -> object:
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
