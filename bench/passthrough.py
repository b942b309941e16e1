"""The bare pass-through for comparison: FastAPI and aiohttp only.

Run as `python -m bench.passthrough <port> <upstream base URL>`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response


def make_app(upstream: str) -> FastAPI:
    """Return an app with one route, which forwards the body and returns the response."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield {"session": session}

    app = FastAPI(lifespan=lifespan)
    headers = {"Authorization": "Bearer bench", "Content-Type": "application/json"}

    @app.post("/v1/platform/chat")
    async def chat(request: Request) -> Response:
        session: aiohttp.ClientSession = request.state.session
        async with session.post(f"{upstream}/chat/completions", data=await request.body(), headers=headers) as answer:
            return Response(await answer.read(), answer.status, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
