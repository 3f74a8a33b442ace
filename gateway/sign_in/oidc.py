"""Sign-in at an OpenID provider: authorization code with PKCE, bound to the browser it began in."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from siloquy.errors import IntegrityError, PolicyDenied, Unreachable
from siloquy.gateway.sign_in import id_token
from siloquy.gateway.sign_in.id_token import TokenExpectation, UnknownKey
from siloquy.gateway.sign_in.people import Requester, of_provider
from siloquy.gateway.sign_in.provider import Provider
from siloquy.gateway.sign_in.rate_limits import RateLimit
from siloquy.gateway.sign_in.records import hash_of, new_token
from siloquy.settings import SignInSettings

# Long enough to find one's telephone; each start is remembered as long, so their number is bounded.
UNDER_WAY_S = 600.0
MOST_STARTS = 300
MOST_UNDER_WAY = 4000
MOST_PARAMETER_CHARACTERS = 4096
SCOPE = "openid profile"


class NoRole(PolicyDenied):
    """The provider vouches for somebody who has no role here; ``who`` is the ledgers' name."""

    def __init__(self, who: str) -> None:
        super().__init__(
            "you have no role at this gateway", "ask your hospital's IT for a role that it knows"
        )
        self.who = who


class StrayReply(PolicyDenied):
    """The reply belongs to no sign-in that was begun in this browser lately."""


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that was begun: where to send the browser, and the cookie that binds it."""

    url: str
    binding: str


@dataclass(frozen=True, slots=True)
class _UnderWay:
    state: str
    nonce: str
    verifier: str
    until: float


class OidcSignIn:
    """Brings people to the provider and takes them in when they come back."""

    def __init__(
        self,
        settings: SignInSettings,
        provider: Provider,
        monotonic: Callable[[], float],
        now_s: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._monotonic = monotonic
        self._now_s = now_s
        self._redirect = f"{settings.url.rstrip('/')}/v1/session/oidc/callback"
        self._under_way: OrderedDict[bytes, _UnderWay] = OrderedDict()
        self._starts = RateLimit(MOST_STARTS, clock=monotonic)

    async def begin(self) -> PendingSignIn:
        """A new sign-in; Overloaded when too many are begun, Unreachable without the provider."""
        self._starts.take()
        metadata = await self._provider.metadata()
        binding, started = new_token(), self._start()
        self._remember(binding, started)
        asked = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": self._redirect,
            "scope": SCOPE,
            "state": started.state,
            "nonce": started.nonce,
            "code_challenge": _challenge(started.verifier),
            "code_challenge_method": "S256",
        }
        mark = "&" if "?" in metadata.authorization else "?"
        return PendingSignIn(f"{metadata.authorization}{mark}{urlencode(asked)}", binding)

    def _start(self) -> _UnderWay:
        until = self._monotonic() + UNDER_WAY_S
        return _UnderWay(new_token(), new_token(), new_token(), until)

    def _remember(self, binding: str, started: _UnderWay) -> None:
        now = self._monotonic()
        while self._under_way:
            oldest = next(iter(self._under_way))
            if self._under_way[oldest].until > now and len(self._under_way) < MOST_UNDER_WAY:
                break
            del self._under_way[oldest]
        self._under_way[hash_of(binding)] = started

    async def finish(self, binding: str, told: Mapping[str, str]) -> Requester:
        """Who came back.

        Strayed for a reply that belongs to no sign-in of this browser, NoRole for somebody without
        a role here, PolicyDenied when the provider refused, IntegrityError when its token does not
        hold, Unreachable when it cannot be reached.
        """
        started = self._take(binding, told.get("state", ""))
        metadata = await self._provider.metadata()
        issuer = told.get("iss", "")
        if (metadata.names_self or issuer) and issuer != self._provider.issuer:
            raise IntegrityError("the reply comes from another provider")
        code = told.get("code", "")
        if "error" in told or not 0 < len(code) <= MOST_PARAMETER_CHARACTERS:
            raise PolicyDenied("the provider did not let you in", "ask who runs it")
        token = await self._provider.redeem(code, started.verifier, self._redirect)
        return self._person(await self._claims(token, started.nonce))

    def _take(self, binding: str, state: str) -> _UnderWay:
        """The sign-in of this browser, which is over with this reply."""
        started = self._under_way.pop(hash_of(binding), None)
        if started is None or started.until <= self._monotonic():
            raise StrayReply("the sign-in was not begun here, or too long ago", "sign in again")
        if not hmac.compare_digest(state.encode("utf-8", "replace"), started.state.encode()):
            raise StrayReply("the reply belongs to another sign-in", "sign in again")
        return started

    async def _claims(self, token: str, nonce: str) -> dict[str, object]:
        expected = TokenExpectation(self._provider.issuer, self._provider.client_id, nonce)
        keys = await self._provider.keys()
        try:
            return id_token.check(token, keys, expected, self._now_s())
        except UnknownKey:
            keys = await self._provider.keys(fresh=True)
            return id_token.check(token, keys, expected, self._now_s())

    def _person(self, claims: Mapping[str, object]) -> Requester:
        subject = str(claims["sub"])
        name = id_token.text_of(claims, self._settings.name_claim) or subject
        roles = id_token.roles_of(claims, self._settings.roles_claim, self._settings.roles)
        shown = id_token.text_of(claims, "name") or name
        person = of_provider(self._provider.issuer, subject, name, shown, roles)
        if not roles:
            raise NoRole(person.name)
        return person

    async def logout_url(self) -> str:
        """Where the browser goes to sign out at the provider too; empty when there is no place.

        No ID token goes along: none is kept. So the provider may ask whether it is meant.
        """
        try:
            metadata = await self._provider.metadata()
        except (PolicyDenied, IntegrityError, Unreachable):
            return ""
        if not metadata.logout:
            return ""
        back = {
            "client_id": self._provider.client_id,
            "post_logout_redirect_uri": f"{self._settings.url.rstrip('/')}/",
        }
        mark = "&" if "?" in metadata.logout else "?"
        return f"{metadata.logout}{mark}{urlencode(back)}"


def _challenge(verifier: str) -> str:
    """RFC 7636, S256."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
