"""The page and its files, as gateway and silo console serve them to a browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

UI = Path(__file__).resolve().parents[1] / "ui"
HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")


def add_page(service: FastAPI) -> None:
    """``/`` and the files that it loads."""

    @service.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(UI / "index.html")

    service.mount("/ui", StaticFiles(directory=UI))
