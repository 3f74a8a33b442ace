"""An OpenID provider as this gateway knows it: its discovery document, its keys, its tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError, Unreachable
from siloquy.watch.tracing import is_loopback

TIMEOUT_S = 10.0
MOST_REPLY_BYTES = 512 * 1024
DISCOVERED_FOR_S = 3600.0
# A token of an unknown key makes the keys be fetched again, but not by everybody who sends one.
REFETCH_EVERY_S = 10.0
# What failed is told to all who wait for it: one after the other they would wait for hours.
FAILED_FOR_S = 5.0


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the discovery document says, as far as it is needed.

    logout      where people sign out at the provider; empty when there is no such place
    posts       whether the client's secret goes into the body, for it is not taken in a header
    names_self  whether the provider adds its issuer to every reply (RFC 9207)
    """

    authorization: str
    token: str
    keys: str
    logout: str
    posts: bool
    names_self: bool


class Provider:
    """The provider with this issuer; asked at first use, not at start."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        secret: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._clock = clock
        self._metadata: Metadata | None = None
        self._failed: SiloquyError | None = None
        self._keys: KeySet | None = None
        self._discovered_at = self._fetched_at = self._refetched_at = float("-inf")
        self._failed_at = float("-inf")
        self._asking = asyncio.Lock()
        # The system's store, or the one that SSL_CERT_FILE names: a hospital has its own CA.
        self._tls = ssl.create_default_context()

    async def metadata(self) -> Metadata:
        """The discovery document; Unreachable, or IntegrityError when it is another issuer's."""
        async with self._asking:
            old = self._clock() - self._discovered_at > DISCOVERED_FOR_S
            if self._metadata is None or old:
                self._metadata = await self._discovered()
                self._discovered_at = self._clock()
            return self._metadata

    async def _discovered(self) -> Metadata:
        """What ``_discover`` gives; for a while after a failure, the same failure."""
        failed = self._failed
        if failed is not None and self._clock() - self._failed_at < FAILED_FOR_S:
            raise type(failed)(failed.message, failed.hint)
        try:
            found = await self._discover()
        except SiloquyError as error:
            self._failed, self._failed_at = error, self._clock()
            raise
        self._failed = None
        return found

    async def _discover(self) -> Metadata:
        told = await self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if told.get("issuer") != self.issuer:
            raise IntegrityError(
                "the provider's discovery document names another issuer",
                "set sign_in.issuer to the very text that the provider calls its issuer",
            )
        methods = told.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Metadata(
            authorization=_address(told, "authorization_endpoint"),
            token=_address(told, "token_endpoint"),
            keys=_address(told, "jwks_uri"),
            logout=_address(told, "end_session_endpoint", needed=False),
            posts="client_secret_basic" not in methods and "client_secret_post" in methods,
            names_self=told.get("authorization_response_iss_parameter_supported") is True,
        )

    async def keys(self, *, fresh: bool = False) -> KeySet:
        """The keys that it signs with; fetched again when ``fresh``, at most every 10 s.

        One that the provider has taken back is trusted for an hour at most.
        """
        address = (await self.metadata()).keys
        async with self._asking:
            now = self._clock()
            old = now - self._fetched_at > DISCOVERED_FOR_S
            due = fresh and now - self._refetched_at > REFETCH_EVERY_S
            if self._keys is None or old or due:
                if fresh:
                    self._refetched_at = now
                self._keys = _key_set(await self._get(address))
                self._fetched_at = now
            return self._keys

    async def redeem(self, code: str, verifier: str, redirect: str) -> str:
        """The ID token for a code; PolicyDenied when the provider does not take it."""
        metadata = await self.metadata()
        body = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret and not metadata.posts:
            # RFC 6749, section 2.3.1: both are escaped before they are joined.
            pair = f"{quote(self.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            body["client_id"] = self.client_id
            if self._secret:
                body["client_secret"] = self._secret
        told = await self._send("POST", metadata.token, data=body, headers=headers)
        token = told.get("id_token")
        if not isinstance(token, str):
            raise IntegrityError("the provider sent no ID token", "is `openid` allowed to it?")
        return token

    async def _get(self, address: str) -> dict[str, Any]:
        return await self._send("GET", address)

    async def _send(self, method: str, address: str, **what: Any) -> dict[str, Any]:
        """The JSON object of a reply; what the provider says in words is not repeated."""
        trusted = not is_loopback(urlsplit(address).hostname or "")
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                httpx.AsyncClient(verify=self._tls, trust_env=trusted, timeout=TIMEOUT_S) as client,
                client.stream(method, address, **what) as reply,
            ):
                status, body = reply.status_code, await _body(reply)
        except (httpx.HTTPError, TimeoutError, OSError):
            raise Unreachable(
                "the sign-in provider cannot be reached", "try again later; API keys go on working"
            ) from None
        if method == "POST" and 400 <= status < 500:
            raise PolicyDenied("the provider did not take the sign-in", "sign in again")
        if status != 200:
            raise Unreachable(
                f"the sign-in provider answered {status}", "try again later, or ask who runs it"
            )
        return _object(body)


async def _body(reply: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in reply.aiter_bytes():
        body += piece
        if len(body) > MOST_REPLY_BYTES:
            raise IntegrityError("the sign-in provider's reply is too long")
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise IntegrityError("the sign-in provider's reply is no JSON object")
    return told


def _key_set(told: dict[str, Any]) -> KeySet:
    """The keys for signatures."""
    listed = told.get("keys")
    wanted = [
        key
        for key in (listed if isinstance(listed, list) else ())
        if isinstance(key, dict) and key.get("use", "sig") == "sig"
    ]
    try:
        return KeySet.import_key_set({"keys": wanted})
    except (JoseError, ValueError, TypeError, KeyError):
        raise IntegrityError("the sign-in provider's keys cannot be read") from None


def _address(told: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """An endpoint; IntegrityError unless it is https or on this machine."""
    address = told.get(name, "")
    if not address and not needed:
        return ""
    try:
        parts = urlsplit(address)
        near = parts.scheme == "http" and is_loopback(parts.hostname or "")
        safe = parts.scheme == "https" or near
    except (ValueError, TypeError, AttributeError):
        safe = False
    if not safe:
        raise IntegrityError(
            f"the provider's {name} is missing or not https", "ask who runs the provider"
        )
    return str(address)
