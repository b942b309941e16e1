"""A collector of traces that reads what it gets and keeps nothing: `python -m bench.collector PORT`."""

import sys

from aiohttp import web


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="ready\n")


app = web.Application(client_max_size=64 * 1024 * 1024)
app.add_routes([web.post("/v1/traces", _take), web.get("/", _ready)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
