"""Routes of the federation: who belongs, and what this gateway knows of each."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from siloquy.codec import to_json
from siloquy.gateway.api.bodies import refused
from siloquy.gateway.api.connection import Caller
from siloquy.gateway.ask import Gateway
from siloquy.gateway.membership import FederationView, RosterView


def add_routes(service: FastAPI, gateway: Gateway) -> None:
    """``/v1/federation`` and ``/v1/roster``."""

    @service.get(
        "/v1/federation",
        summary="Who belongs, and what this gateway knows of each silo",
        responses={200: {"model": FederationView}, **refused(503)},
    )
    async def federation(caller: Caller) -> JSONResponse:
        return JSONResponse(to_json(await gateway.federation()))

    @service.get(
        "/v1/roster",
        summary="The roster, as the founders signed it",
        responses={200: {"model": RosterView}, **refused()},
    )
    async def roster(caller: Caller) -> JSONResponse:
        return JSONResponse(to_json(gateway.roster()))
