"""Routes of a session: begin one with a password or at the provider, look at it, end it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from siloquy.errors import IntegrityError, SiloquyError, Unreachable
from siloquy.gateway.api.authentication import CSRF
from siloquy.gateway.api.bodies import Responses, refused
from siloquy.gateway.api.connection import Caller, Visitor
from siloquy.gateway.api.conversations import Conversations
from siloquy.gateway.api.sign_in_bodies import (
    JoinBody,
    LogoutReply,
    PasswordBody,
    PersonReply,
    SessionReply,
    SignInBody,
)
from siloquy.gateway.sign_in.accounts import ProvenAccount
from siloquy.gateway.sign_in.authenticator import Authenticator
from siloquy.gateway.sign_in.browsers import KNOWN_FOR_S
from siloquy.gateway.sign_in.oidc import UNDER_WAY_S, NoRole, StrayReply
from siloquy.gateway.sign_in.people import ROLES, Requester
from siloquy.gateway.sign_in.sessions import csrf_of
from siloquy.settings import ApiSettings
from siloquy.web.refusals import Overloaded

_SESSION: Responses = {200: {"model": SessionReply}}
_PARAMETERS = ("state", "code", "iss", "error")


@dataclass(frozen=True, slots=True)
class SiteName:
    """Whose gateway this is."""

    node: str = ""
    organisation: str = ""


class SignInContext:
    """What all routes of a session need."""

    def __init__(
        self,
        authenticator: Authenticator,
        conversations: Conversations,
        settings: ApiSettings,
        site: SiteName,
    ) -> None:
        self.authenticator = authenticator
        self._conversations = conversations
        self._settings = settings
        self._site = site

    def token(self, request: Request) -> str:
        """The session's token as the browser sent it; empty for none."""
        return self.authenticator.session_cookie.read(request.headers.getlist("cookie"))

    def marks(self, request: Request) -> str:
        """The marks of people who have signed in on this browser."""
        return self.authenticator.known_cookie.read(request.headers.getlist("cookie"))

    async def told(self, person: Requester | None, csrf: str) -> JSONResponse:
        """The reply that says who is signed in."""
        settings, keep_days = self.authenticator.settings, self._settings.keep_days
        if person is not None:
            own = await self._conversations.aside(self._conversations.keep_days, person.owner)
            keep_days = own or keep_days
        idle_s = 0 if self.authenticator.open_to_all else settings.idle_minutes * 60
        reply = SessionReply(
            node=self._site.node,
            organisation=self._site.organisation,
            sign_in=settings.kind,
            provider=settings.provider,
            person=None if person is None else _person(person),
            csrf=csrf,
            idle_s=idle_s,
            keep_days=keep_days,
            feedback_for_tuning=self._settings.feedback_for_tuning,
        )
        return JSONResponse(reply.model_dump())

    async def opened(self, request: Request, proven: ProvenAccount) -> JSONResponse:
        """The same with a new session, whose cookie takes the place of an older one."""
        token = await self.authenticator.open_local(proven, self.token(request))
        reply = await self.told(proven.account.requester, csrf_of(token))
        self.give(reply, token)
        marks = self.authenticator.local.marks(proven, self.marks(request))
        known = self.authenticator.known_cookie.given(marks, KNOWN_FOR_S)
        reply.headers.append("Set-Cookie", known)
        return reply

    def give(self, reply: Response, token: str) -> None:
        """Let the browser keep a session's token; an empty one takes it away."""
        most_s = self.authenticator.settings.most_hours * 3600 if token else 0
        cookie = self.authenticator.session_cookie.given(token, most_s)
        reply.headers.append("Set-Cookie", cookie)

    def page(self, error: str = "") -> RedirectResponse:
        """The way back to the page, with a code of what went wrong."""
        place = f"#/sign-in?error={error}" if error else ""
        return RedirectResponse(f"{self.authenticator.home}/{place}", 302)


def _person(person: Requester) -> PersonReply:
    roles = [role for role in ROLES if role in person.roles]
    return PersonReply(name=person.name, shown=person.shown, roles=roles)


def add_routes(service: FastAPI, sessions: SignInContext) -> None:
    """``/v1/session``, ``/v1/session/password`` and ``/v1/accounts/join``."""
    authenticator = sessions.authenticator

    @service.get(
        "/v1/session",
        summary="This site, and who is signed in; ?quiet=1 leaves the idle time as it is",
        responses={**_SESSION, **refused()},
    )
    async def session(request: Request, visitor: Visitor, quiet: int = 0) -> Response:
        return await sessions.told(visitor, request.scope.get(CSRF, ""))

    @service.post(
        "/v1/session",
        summary="Sign in with an account of this gateway",
        responses={**_SESSION, **refused(404)},
    )
    async def sign_in(body: SignInBody, request: Request, visitor: Visitor) -> Response:
        proven = await authenticator.local.sign_in(
            body.name, body.password, sessions.marks(request)
        )
        return await sessions.opened(request, proven)

    @service.delete(
        "/v1/session",
        summary="Sign out; where the provider has a place for it, the reply says where",
        status_code=204,
        responses={200: {"model": LogoutReply}, **refused()},
    )
    async def sign_out(request: Request, caller: Caller) -> Response:
        await authenticator.end(sessions.token(request))
        url = ""
        if authenticator.settings.kind == "oidc":
            url = await authenticator.oidc.logout_url()
        reply = JSONResponse({"logout": url}) if url else Response(status_code=204)
        sessions.give(reply, "")
        return reply

    @service.put(
        "/v1/session/password",
        summary="Another password for one's account; its other sessions end",
        responses={**_SESSION, **refused(404)},
    )
    async def password(body: PasswordBody, request: Request, caller: Caller) -> Response:
        proven = await authenticator.local.change_password(
            caller, body.old, body.new, sessions.marks(request)
        )
        return await sessions.opened(request, proven)

    @service.post(
        "/v1/accounts/join",
        summary="Use a one-time link: choose a password, and be signed in",
        responses={**_SESSION, **refused(404)},
    )
    async def join(body: JoinBody, request: Request, visitor: Visitor) -> Response:
        proven = await authenticator.local.join(body.token, body.shown, body.password)
        return await sessions.opened(request, proven)

    _add_oidc(service, sessions)


def _add_oidc(service: FastAPI, sessions: SignInContext) -> None:
    """``/v1/session/oidc``: to the provider and back."""
    authenticator = sessions.authenticator
    cookie = authenticator.binding_cookie

    @service.get(
        "/v1/session/oidc",
        summary="Go to the sign-in provider",
        status_code=302,
        responses=refused(404, 502, 503),
        response_class=RedirectResponse,
    )
    async def begin(request: Request, visitor: Visitor) -> Response:
        try:
            begun = await authenticator.oidc.begin()
        except (Overloaded, Unreachable, IntegrityError) as error:
            # A person who pressed a button sees the page again, a program the refusal.
            if "text/html" in request.headers.get("accept", ""):
                return sessions.page(_code(error))
            raise
        reply = RedirectResponse(begun.url, 302)
        reply.headers.append("Set-Cookie", cookie.given(begun.binding, int(UNDER_WAY_S)))
        return reply

    @service.get(
        "/v1/session/oidc/callback",
        summary="Come back from the sign-in provider; what went wrong is told to the page",
        status_code=302,
        responses=refused(404),
        response_class=RedirectResponse,
    )
    async def finish(request: Request, visitor: Visitor) -> Response:
        told = {
            name: request.query_params[name] for name in _PARAMETERS if name in request.query_params
        }
        oidc, binding = authenticator.oidc, cookie.read(request.headers.getlist("cookie"))
        try:
            person = await oidc.finish(binding, told)
        except SiloquyError as error:
            await _note(authenticator, error)
            reply = sessions.page(_code(error))
        else:
            await authenticator.aside(authenticator.log.add, person.name, "oidc")
            reply = sessions.page()
            sessions.give(reply, await authenticator.open(person, sessions.token(request)))
        reply.headers.append("Set-Cookie", cookie.given("", 0))
        return reply


async def _note(authenticator: Authenticator, error: SiloquyError) -> None:
    """Write down who was not let in; a reply that strays in from anywhere is nobody's attempt."""
    if isinstance(error, StrayReply):
        return
    who = error.who if isinstance(error, NoRole) else ""
    await authenticator.aside(authenticator.log.add, who, "oidc", error.message)


def _code(error: SiloquyError) -> str:
    """What the page is told: it has words of its own for each."""
    if isinstance(error, NoRole):
        return "role"
    if isinstance(error, StrayReply):
        return "expired"
    known = {"unreachable": "provider", "integrity": "token", "busy": "busy", "denied": "refused"}
    return known.get(error.code, "error")
