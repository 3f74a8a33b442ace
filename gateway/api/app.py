"""The gateway's HTTP face: ask and retrieve, streams to follow, sign-in and the page.

It listens on loopback only: other people on a site reach it through a reverse proxy with TLS.
"""

from __future__ import annotations

import ipaddress

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from siloquy import __version__
from siloquy.codec import to_json
from siloquy.errors import SettingsError
from siloquy.gateway.api import (
    account_service,
    ask_service,
    bodies,
    conversation_service,
    federation_service,
    keeping_service,
    openai_service,
    sign_in_service,
)
from siloquy.gateway.api.admission import Admission
from siloquy.gateway.api.api_keys import Keys
from siloquy.gateway.api.authentication import Authentication
from siloquy.gateway.api.connection import Caller
from siloquy.gateway.api.conversations import Conversations
from siloquy.gateway.api.question_queue import QuestionQueue
from siloquy.gateway.api.security import state_security
from siloquy.gateway.api.sign_in_service import SignInContext, SiteName
from siloquy.gateway.api.streams import Streams
from siloquy.gateway.ask import Gateway, GatewayStatus
from siloquy.gateway.sign_in.authenticator import Authenticator, no_sign_in
from siloquy.settings import ApiSettings
from siloquy.watch.health import Watch
from siloquy.watch.metrics import GatewayMonitor
from siloquy.web.failures import add_errors
from siloquy.web.middleware import SecurityHeaders
from siloquy.web.pages import HOSTS, add_page

# Streams that have ended and may still be read again, beside those of questions under way.
MOST_ENDED = 512
_ABOUT = (
    "Ask one clinical question across hospitals that never pool their documents. Every refusal is "
    '`{"error": {"code", "message", "hint"}}`; under /v1/chat and /v1/models it has the shape of '
    "the OpenAI API."
)


def check_loopback(host: str) -> None:
    """SettingsError unless ``host`` is this machine alone."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingsError(
            f"listen.host is {host!r}; the gateway has no TLS and listens to this machine only",
            "listen on 127.0.0.1 and put a reverse proxy with TLS in front, with [sign_in] set",
        )


def app(
    gateway: Gateway,
    settings: ApiSettings,
    conversations: Conversations,
    keys: Keys,
    monitor: GatewayMonitor | None = None,
    watch: Watch | None = None,
    authenticator: Authenticator | None = None,
    site: SiteName | None = None,
) -> FastAPI:
    """The HTTP application around ``gateway``.

    Without a ``watch`` it is always well and ready, without an ``authenticator`` who reaches it is
    `local`.
    """
    monitor = monitor or GatewayMonitor()
    authenticator = authenticator or no_sign_in()
    watch = watch or Watch(monitor.registry, {}, {})
    service = FastAPI(
        title="Siloquy gateway",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
    )
    # The last one added is passed first.
    service.add_middleware(
        Authentication, keys=keys, authenticator=authenticator, require_key=settings.require_key
    )
    hosts = [*HOSTS, *authenticator.hosts]
    service.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    service.add_middleware(SecurityHeaders)
    queue = QuestionQueue(
        gateway,
        Admission(settings.at_once, settings.waiting),
        Streams(settings.keep_s, settings.at_once + settings.waiting + MOST_ENDED),
        conversations,
        monitor,
    )
    monitor.queue(lambda: queue.admission.load)
    add_errors(service)
    ask_service.add_routes(service, queue)
    conversation_service.add_routes(service, conversations)
    openai_service.add_routes(service, queue)
    sessions = SignInContext(authenticator, conversations, settings, site or SiteName())
    sign_in_service.add_routes(service, sessions)
    account_service.add_routes(service, authenticator, keys, conversations)
    keeping_service.add_routes(service, gateway, conversations, settings)
    _add_routes(service, gateway)
    federation_service.add_routes(service, gateway)
    add_page(service)
    _add_watch(service, watch)
    state_security(service, authenticator, require_key=settings.require_key)
    return service


def _add_routes(service: FastAPI, gateway: Gateway) -> None:
    @service.get(
        "/v1/status",
        summary="Whether the gateway can ask, and whom",
        responses={200: {"model": GatewayStatus}, **bodies.refused()},
    )
    async def status(caller: Caller) -> JSONResponse:
        return JSONResponse(to_json(gateway.status()))


def _add_watch(service: FastAPI, watch: Watch) -> None:
    """Health, readiness and metrics, as ``siloquy.watch.health`` tells them."""
    lacking: bodies.Responses = {503: {"model": bodies.HealthReply}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    counted: bodies.Responses = {200: {"content": text}, **bodies.refused()}

    async def tell(request: Request) -> Response:
        reply = await watch.tell(request.url.path)
        if reply is None:
            raise HTTPException(404)
        return Response(reply.body, reply.status, media_type=reply.content_type)

    for path, what, model, responses in (
        ("/healthz", "Whether loop, database and disk do their work", bodies.HealthReply, lacking),
        ("/readyz", "Whether a question can be asked now", bodies.ReadyReply, lacking),
        ("/metrics", "Counts for Prometheus", None, counted),
    ):
        told = Response if model is None else JSONResponse
        service.get(
            path, summary=what, responses=responses, response_model=model, response_class=told
        )(tell)
