"""A reverse proxy in front of a real gateway that breaks one thing, so that one gateway stands for many broken ones."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from aiohttp import web

CHAT = "/v1/platform/chat"
_UNCOPIED = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})

FAULTS = (
    "other_commit", "auth_off", "any_key", "lying_readiness", "hung_chat", "other_model", "no_limit_headers",
    "cut_stream", "unended_stream", "no_embeddings", "frozen_metrics", "no_traces", "no_audit", "no_usage",
)  # fmt: skip


@dataclass
class BreakingProxy:
    """Forwards each request to the gateway or its metrics, except for what `fault` names."""

    gateway: str
    metrics: str
    key: str
    fault: str | None
    http: httpx.AsyncClient
    url: str = ""
    hung: bool = False
    """Whether a request was left without a response."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    first: dict[str, httpx.Response] = field(default_factory=dict)
    """The first response of each path."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request, with the fault."""
        body = await request.read()
        path, streams = request.path, b'"stream":true' in body
        if self.fault == "lying_readiness" and path == "/readyz":
            return web.json_response({"status": "ready", "checks": []})
        if self.fault == "hung_chat" and path == CHAT and self.key in request.headers.get("Authorization", ""):
            self.hung = True
            await self.closing.wait()
        if self.fault == "no_embeddings" and path == "/v1/embeddings":
            return web.json_response({"error": {"code": "not_found", "message": "no such route"}}, status=404)
        response = await self._forward(request, body)
        first = self.first.setdefault(path, response)
        if streams and self.fault in ("cut_stream", "unended_stream"):
            return await self._broken_stream(request, response)
        frozen = {"frozen_metrics": "/metrics", "no_usage": "/v1/platform/usage"}
        if frozen.get(self.fault or "") == path:
            response = first
        headers = {name: value for name, value in response.headers.items() if name not in _UNCOPIED}
        headers.pop("content-encoding", None)
        if self.fault == "no_limit_headers":
            headers = {name: value for name, value in headers.items() if "ratelimit" not in name}
        change = _CHANGES.get((self.fault or "", path))
        text = response.text if change is None or streams else change(response.text)
        return web.Response(body=text.encode(), status=response.status_code, headers=headers)

    async def _forward(self, request: web.Request, body: bytes) -> httpx.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _UNCOPIED}
        with_key = "Authorization" in headers
        if (self.fault == "auth_off" and not with_key) or (self.fault == "any_key" and with_key):
            headers["Authorization"] = f"Bearer {self.key}"
        url = self.metrics if request.path == "/metrics" else self.gateway + request.path
        return await self.http.request(request.method, url, content=body, headers=headers, params=request.query)

    async def _broken_stream(self, request: web.Request, response: httpx.Response) -> web.StreamResponse:
        """Send the first event alone, then close the connection: in the middle of the body, or as if it were whole."""
        broken = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await broken.prepare(request)
        await broken.write(response.content.partition(b"\n\n")[0] + b"\n\n")
        if self.fault == "cut_stream":
            assert request.transport is not None
            request.transport.close()
        return broken


def _set(**values: object) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **values})


def _without_exported_spans(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if 'platform_trace_spans_total{outcome="exported"}' not in line)


_CHANGES: Mapping[tuple[str, str], Callable[[str], str]] = {
    ("other_commit", "/v1/meta"): _set(build_sha="f" * 40),
    ("other_model", CHAT): _set(model="sim-other"),
    ("no_audit", "/v1/platform/audit"): _set(data=[]),
    ("no_traces", "/metrics"): _without_exported_spans,
}


@asynccontextmanager
async def breaking_proxy(gateway: str, metrics: str, key: str, fault: str | None) -> AsyncIterator[BreakingProxy]:
    """A proxy on a free port of this machine; without a fault it forwards everything."""
    assert fault is None or fault in FAULTS, fault
    async with httpx.AsyncClient(timeout=300, trust_env=False) as http:
        proxy = BreakingProxy(gateway, metrics, key, fault, http)
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", proxy.handle)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            proxy.closing.set()
            await runner.cleanup()
