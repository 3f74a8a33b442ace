"""The page and its files, as gateway and silo console serve them to a browser."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles

# Built at set-up, and in the wheel; never in the repository.
UI = Path(__file__).resolve().parents[1] / "gateway" / "ui" / "dist"
NOT_BUILT = "The page is not built: run scripts/setup, then start this again. The API works.\n"
HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")


def add_page(service: FastAPI) -> None:
    """``/`` and the files that it loads."""

    @service.get("/", include_in_schema=False)
    async def page() -> Response:
        index = UI / "index.html"
        if not index.exists():
            return PlainTextResponse(NOT_BUILT, 503)
        return FileResponse(index)

    if (UI / "ui").is_dir():
        service.mount("/ui", StaticFiles(directory=UI / "ui"))
