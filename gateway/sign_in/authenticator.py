"""Who has signed in, whichever way this gateway's settings say; nobody can without such a way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic as system_monotonic
from typing import TypeVar
from urllib.parse import urlsplit

from siloquy.gateway.sign_in.accounts import Accounts, ProvenAccount
from siloquy.gateway.sign_in.aside import Aside
from siloquy.gateway.sign_in.local_accounts import LocalAccounts, changed_meanwhile
from siloquy.gateway.sign_in.oidc import OidcSignIn
from siloquy.gateway.sign_in.people import Requester
from siloquy.gateway.sign_in.provider import Provider
from siloquy.gateway.sign_in.records import FILE_NAME
from siloquy.gateway.sign_in.secret_file import read_secret
from siloquy.gateway.sign_in.sessions import HOUR_MS, MINUTE_MS, Sessions
from siloquy.gateway.sign_in.sign_in_log import SignInLog
from siloquy.settings import SignInSettings
from siloquy.web.cookies import cookies
from siloquy.web.refusals import NotFound

T = TypeVar("T")


class Authenticator:
    """The sign-in of one gateway.

    home   the address of its page
    """

    def __init__(
        self,
        settings: SignInSettings,
        folder: Path,
        home: str,
        clock: Callable[[], int],
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self.settings = settings
        self.home = home.rstrip("/")
        self.session_cookie, self.binding_cookie = cookies(home, strict=settings.kind == "local")
        self.known_cookie = self.session_cookie.beside("known")
        self.aside = Aside("sign-in")
        self._log: SignInLog | None = None
        self._sessions: Sessions | None = None
        self._local: LocalAccounts | None = None
        self._oidc: OidcSignIn | None = None
        if settings.kind == "none":
            return
        path = folder / FILE_NAME
        self._log = SignInLog(path, clock)
        idle_ms, most_ms = settings.idle_minutes * MINUTE_MS, settings.most_hours * HOUR_MS
        self._sessions = Sessions(path, clock, settings.kind, idle_ms, most_ms)
        if settings.kind == "local":
            accounts = Accounts(path, clock)
            self._local = LocalAccounts(accounts, self._log, self.aside, monotonic)
        else:
            self._oidc = _oidc(settings, folder, monotonic, clock)

    @property
    def open_to_all(self) -> bool:
        """Whether nobody has to sign in."""
        return self.settings.kind == "none"

    @property
    def log(self) -> SignInLog:
        """Who came in; NotFound without sign-in."""
        return _there(self._log)

    @property
    def local(self) -> LocalAccounts:
        """The gateway's own accounts; NotFound when people sign in otherwise."""
        return _there(self._local)

    @property
    def oidc(self) -> OidcSignIn:
        """The provider; NotFound when people sign in otherwise."""
        return _there(self._oidc)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of this machine under which people reach the page."""
        host = urlsplit(self.settings.url).hostname
        return (host,) if host else ()

    # -- sessions ---------------------------------------------------------------------------------

    async def open(self, person: Requester, before: str) -> str:
        """The token of a new session; the one that the browser had ``before`` ends."""
        sessions = _there(self._sessions)
        await self.aside(sessions.end, before)
        return await self.aside(sessions.open, person)

    async def open_local(self, proven: ProvenAccount, before: str) -> str:
        """The same for the holder of an account; Unauthenticated when it was changed meanwhile.

        A change ends the sessions that there are: so the look comes after the session is one.
        """
        token = await self.open(proven.account.requester, before)
        if not await self.aside(self.local.accounts.unchanged, proven):
            await self.end(token)
            raise changed_meanwhile()
        return token

    async def find(self, token: str, *, quiet: bool) -> Requester | None:
        """Whose session it is; None when there is none."""
        if self._sessions is None or not token:
            return None
        return await self.aside(self._sessions.find, token, quiet=quiet)

    async def end(self, token: str) -> None:
        """End a session, if there is one."""
        if self._sessions is not None:
            await self.aside(self._sessions.end, token)

    def close(self) -> None:
        """End the threads and close the file."""
        self.aside.close()
        for part in (self._local, self._sessions, self._log):
            if part is not None:
                part.close()


def no_sign_in() -> Authenticator:
    """Everybody is `local`: nothing is kept."""
    return Authenticator(SignInSettings(), Path(), "http://127.0.0.1", lambda: 0)


def _oidc(
    settings: SignInSettings,
    folder: Path,
    monotonic: Callable[[], float],
    clock: Callable[[], int],
) -> OidcSignIn:
    secret = ""
    if settings.client_secret_file:
        path = folder / settings.client_secret_file
        secret = read_secret("sign_in.client_secret_file", path)
    provider = Provider(settings.issuer, settings.client_id, secret, monotonic)
    return OidcSignIn(settings, provider, monotonic, lambda: clock() // 1000)


def _there(part: T | None) -> T:
    if part is None:
        raise NotFound("people do not sign in this way here", "GET /v1/session says how they do")
    return part
