"""ID tokens: each thing that could be wrong in one is found, whatever else is right."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from siloquy.errors import IntegrityError
from siloquy.gateway.sign_in.id_token import TokenExpectation, UnknownKey, check, roles_of, text_of

NOW = 1_800_000_000
ISSUER, CLIENT, NONCE = "https://id.example", "ward", "n" * 43
EXPECTED = TokenExpectation(ISSUER, CLIENT, NONCE)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "7",
    "nonce": NONCE,
    "iat": NOW - 5,
    "exp": NOW + 300,
}
Key = RSAKey | ECKey | OKPKey
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
KEYS: dict[str, Key] = {
    "RS256": RSA,
    "PS256": RSA,
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
}
SET = KeySet([RSA, KEYS["ES256"], KEYS["Ed25519"]])


def token(claims: dict[str, Any], algorithm: str = "RS256", key: Key | None = None) -> str:
    """A signed token."""
    signing = key or KEYS[algorithm]
    header = {"alg": algorithm, "kid": signing.kid}
    return jwt.encode(header, claims, signing, algorithms=[algorithm])


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_that_holds_gives_its_claims(algorithm: str) -> None:
    assert check(token(CLAIMS, algorithm), SET, EXPECTED, NOW) == CLAIMS


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_the_old_name_of_ed25519_is_taken_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    made = token(CLAIMS, "EdDSA", KEYS["Ed25519"])
    recwarn.clear()
    assert check(made, SET, EXPECTED, NOW) == CLAIMS
    assert not recwarn.list


def test_several_audiences_need_the_party_that_it_was_given_to() -> None:
    several = {**CLAIMS, "aud": [CLIENT, "other"]}
    assert check(token({**several, "azp": CLIENT}), SET, EXPECTED, NOW)["azp"] == CLIENT
    for claims in (several, {**several, "azp": "other"}, {**CLAIMS, "azp": "other"}):
        with pytest.raises(IntegrityError):
            check(token(claims), SET, EXPECTED, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://id.example/"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": []},
        {"aud": {CLIENT: 1}},
        {"nonce": "m" * 43},
        {"nonce": None},
        {"nonce": ["n" * 43]},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"exp": NOW - 61},
        {"exp": None},
        {"exp": str(NOW + 300)},
        {"exp": True},
        {"iat": NOW + 61},
        {"iat": NOW - 601},
        {"iat": None},
        {"nbf": NOW + 61},
        {"nbf": "x"},
    ],
    ids=str,
)
def test_whatever_is_wrong_in_it_is_found(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**CLAIMS, **change}.items() if value is not None}
    with pytest.raises(IntegrityError) as refused:
        check(token(claims), SET, EXPECTED, NOW)
    assert not isinstance(refused.value, UnknownKey)


def test_a_key_that_says_it_is_another_does_not_pass_for_it() -> None:
    foreign = RSAKey.generate_key(2048, {"kid": "rsa"})
    with pytest.raises(IntegrityError, match="signature"):
        check(token(CLAIMS, "RS256", foreign), SET, EXPECTED, NOW)


def test_an_unknown_key_is_told_apart_for_it_may_be_a_new_one() -> None:
    with pytest.raises(UnknownKey):
        check(token(CLAIMS, "RS256", RSAKey.generate_key(2048, {"kid": "x"})), SET, EXPECTED, NOW)
    # A key of another kind under the same name is none either.
    other = ECKey.generate_key("P-256", {"kid": "rsa"})
    with pytest.raises(UnknownKey):
        check(token(CLAIMS, "ES256", other), SET, EXPECTED, NOW)


def test_a_token_that_names_no_key_is_taken_where_there_is_one_alone() -> None:
    made = jwt.encode({"alg": "RS256"}, CLAIMS, RSA)
    assert check(made, SET, EXPECTED, NOW) == CLAIMS
    two = KeySet([RSA, RSAKey.generate_key(2048, {"kid": "two"})])
    with pytest.raises(UnknownKey):
        check(made, two, EXPECTED, NOW)


def test_no_token_without_a_key_pairs_signature_is_taken() -> None:
    unsigned = f"{part({'alg': 'none'})}.{part(CLAIMS)}."
    # The public key as the secret of an HMAC: what careless verifiers take.
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(CLAIMS)}"
    digest = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    confused = f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    for made in (unsigned, confused, token(CLAIMS, "RS384", RSA)):
        with pytest.raises(IntegrityError):
            check(made, SET, EXPECTED, NOW)


def test_a_key_in_the_tokens_own_header_is_not_believed() -> None:
    own = RSAKey.generate_key(2048, {"kid": "rsa"})
    header = {"alg": "RS256", "kid": "rsa", "jwk": own.as_dict(private=False)}
    made = jwt.encode(header, CLAIMS, own)
    with pytest.raises(IntegrityError):
        check(made, SET, EXPECTED, NOW)


GOOD = token(CLAIMS)


@given(place=st.integers(0, len(GOOD) - 1), letter=st.sampled_from("Aa9_-.=\n"))
def test_a_token_in_which_one_letter_is_changed_does_not_hold(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    # The last letter of a part holds bits that stand for nothing.
    if _decoded(changed) != _decoded(GOOD):
        with pytest.raises(IntegrityError):
            check(changed, SET, EXPECTED, NOW)


def _decoded(text: str) -> list[bytes]:
    try:
        return [base64.b64decode(p + "=" * (-len(p) % 4), b"-_", True) for p in text.split(".")]
    except ValueError:
        return []


@given(st.text(max_size=200))
def test_no_text_makes_the_check_fail_otherwise(text: str) -> None:
    with pytest.raises(IntegrityError) as refused:
        check(text, SET, EXPECTED, NOW)
    assert len(text) < 8 or text not in refused.value.message


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(header=_ANYTHING, body=_ANYTHING, tail=st.text("abc=.", max_size=8))
def test_no_header_and_no_body_makes_the_check_fail_otherwise(
    header: Any, body: Any, tail: str
) -> None:
    given_header = {"alg": "RS256", "kid": "rsa", **header} if isinstance(header, dict) else header
    with pytest.raises(IntegrityError):
        check(f"{part(given_header)}.{part(body)}.{tail}", SET, EXPECTED, NOW)


def test_a_token_that_is_too_long_is_not_read() -> None:
    with pytest.raises(IntegrityError, match="too long"):
        check("x" * 100_000, SET, EXPECTED, NOW)


# -- roles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "claim", "names", "roles"),
    [
        ({"roles": ["clinician", "x", 7]}, "roles", {}, {"clinician"}),
        ({"roles": "auditor"}, "roles", {}, {"auditor"}),
        ({"a": {"b": ["auditor"]}}, "a.b", {}, {"auditor"}),
        ({"https://x.example/roles": ["auditor"]}, "https://x.example/roles", {}, {"auditor"}),
        ({"roles": ["doc", "clinician"]}, "roles", {"doc": "evaluator"}, {"evaluator"}),
        ({"roles": {"clinician": True}}, "roles", {}, set()),
        ({"roles": None}, "roles", {}, set()),
        ({}, "a.b.c", {}, set()),
    ],
)
def test_roles_are_read_from_where_the_settings_say(
    claims: dict[str, object], claim: str, names: dict[str, str], roles: set[str]
) -> None:
    assert roles_of(claims, claim, names) == roles


@given(
    claims=st.dictionaries(st.sampled_from(["a", "b"]), _ANYTHING), claim=st.text("ab.", max_size=5)
)
def test_no_claims_make_the_reading_of_roles_fail(claims: dict[str, object], claim: str) -> None:
    assert isinstance(roles_of(claims, claim, {}), frozenset)
    assert isinstance(text_of(claims, claim), str)
