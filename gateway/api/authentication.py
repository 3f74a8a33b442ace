"""Authentication: an API key, a session's cookie, or this machine's own page tells who asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from siloquy.errors import SiloquyError
from siloquy.gateway.api import permissions
from siloquy.gateway.api.api_keys import Attempts, Keys
from siloquy.gateway.sign_in.authenticator import Authenticator
from siloquy.gateway.sign_in.people import LOCAL, Requester, of_key
from siloquy.gateway.sign_in.sessions import csrf_of
from siloquy.web.csrf import is_of_the_page, proves_its_page
from siloquy.web.middleware import (
    App,
    Headers,
    Receive,
    Scope,
    Send,
    admitted,
    check_origin,
    headers_of,
    refuse,
)
from siloquy.web.refusals import Refusal, refusal

CALLER = "siloquy.caller"
STILL_IN = "siloquy.still_in"
CSRF = "siloquy.csrf"
# Browsers take a stream up again by themselves: it is nothing that a person does.
STREAMS = "/v1/ask/"
_HINT = "send `Authorization: Bearer KEY`, with a key that `siloquy gateway key add` made"
_NOT_SIGNED_IN = Refusal(
    401,
    "denied",
    "you are not signed in",
    "sign in, or send an API key",
    {"WWW-Authenticate": "Bearer"},
)
StillIn = Callable[[], Awaitable[bool]]


class Authentication:
    """The application behind its checks; what passes knows who asks, and has all its body."""

    def __init__(
        self, app: App, keys: Keys, authenticator: Authenticator, *, require_key: bool
    ) -> None:
        self._app = app
        self._keys = keys
        self._authenticator = authenticator
        self._require_key = require_key
        self._attempts = Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        checked = check_origin(scope, headers)
        if checked is None:
            try:
                checked = await self._check_caller(scope, headers)
            except SiloquyError as error:
                checked = refusal(error)
        got = await admitted(scope, receive, lambda *_: checked)
        if isinstance(got, Refusal):
            await refuse(got, scope, send)
        else:
            await self._app(scope, got, send)

    async def _check_caller(self, scope: Scope, headers: Headers) -> Refusal | None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path: str = scope["path"]
        needs = permissions.needed(method, path)
        if needs == "nothing" and is_of_the_page(scope):
            return None
        caller = await self._caller(scope, headers, required=needs != "nothing")
        if isinstance(caller, Refusal):
            return caller
        if needs is None:
            return permissions.without_row(path)
        scope[CALLER] = caller
        return None if caller is None else permissions.refused(needs, caller)

    async def _caller(
        self, scope: Scope, headers: Headers, *, required: bool
    ) -> Requester | Refusal | None:
        """Who asks; None for somebody unknown where nobody has to be known."""
        if given := headers.get("authorization", []):
            return self._of_key(given)
        if self._require_key or scope["path"].startswith(permissions.KEYED_PATHS):
            return unauthorised("an API key is needed")
        return await self._of_cookie(scope, headers, required=required)

    def _of_key(self, given: list[str]) -> Requester | Refusal:
        scheme, _, key = given[0].partition(" ")
        known = self._keys.requester(key.strip()) if len(given) == 1 else None
        if known is None or scheme.lower() != "bearer":
            return self._wrong()
        return of_key(known)

    def _wrong(self) -> Refusal:
        wait_s = self._attempts.failed()
        if wait_s is None:
            return unauthorised("the API key is not known")
        return Refusal(
            429,
            "busy",
            "too many wrong API keys",
            "use a key that `siloquy gateway key add` made",
            {"Retry-After": str(wait_s)},
        )

    async def _of_cookie(
        self, scope: Scope, headers: Headers, *, required: bool
    ) -> Requester | Refusal | None:
        authenticator = self._authenticator
        if authenticator.open_to_all:
            return LOCAL
        token = authenticator.session_cookie.read(headers.get("cookie", []))
        caller = await authenticator.find(token, quiet=_is_quiet(scope))
        if caller is None:
            return _NOT_SIGNED_IN if required else None
        scope[CSRF] = csrf_of(token)
        if required and not proves_its_page(scope, headers, scope[CSRF]):
            return Refusal(
                403,
                "denied",
                "the header X-CSRF-Token is missing or not this session's",
                "send `csrf` of GET /v1/session with everything that changes something",
            )

        async def still_in() -> bool:
            return await authenticator.find(token, quiet=True) is not None

        scope[STILL_IN] = still_in
        return caller


def unauthorised(message: str) -> Refusal:
    """A refusal of who has no key."""
    return Refusal(401, "denied", message, _HINT, {"WWW-Authenticate": "Bearer"})


def _is_quiet(scope: Scope) -> bool:
    """Whether a page asks by itself, so that the session's idle time goes on."""
    if scope["method"] != "GET":
        return False
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return query.get("quiet") == ["1"] or scope["path"].startswith(STREAMS)
