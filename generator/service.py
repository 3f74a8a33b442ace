"""The gateway's HTTP face: ask and retrieve, streams to follow, and a plain page. Loopback only.

Other people on a site reach it through a reverse proxy that signs them in, or by API keys through
one with TLS; by itself it refuses to listen elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, Query, Request, Security
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.sse import format_sse_event
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Receive, Scope, Send

from siloquy.codec import to_json
from siloquy.errors import SettingsError, SiloquyError
from siloquy.generator import bodies, conversation_service, openai_service
from siloquy.generator.admission import Admission
from siloquy.generator.api_keys import Keys
from siloquy.generator.asking import Asking
from siloquy.generator.conversations import Conversations
from siloquy.generator.desk import Desk, Question, Wanted
from siloquy.generator.edge import Gate, Guarded
from siloquy.generator.refusals import DEFECT, Refusal, refusal
from siloquy.generator.streams import Stream, Streams
from siloquy.settings import ApiSettings
from siloquy.types import Answer, Event, Planned, Sentence, SiloNews, Source
