"""A stand-in for the gateway that responds to smoke checks as a healthy one would, except for one named fault."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SHA = "0123456789abcdef"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
_LIMITS = {
    "RateLimit-Policy": '"key-rpm";q=600;w=60',
    "RateLimit": '"key-rpm";r=599;t=60',
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-remaining-requests": "599",
}

FAULTS = (
    "hung", "not_ready", "other_commit", "other_service", "open_door", "no_challenge", "key_refused", "provider_down",
    "no_limit_headers", "cut_stream", "no_openai_route", "empty_completion", "broken_embeddings", "frozen_metrics",
    "no_audit", "no_usage", "no_audit_scope", "no_models_scope", "any_key", "lying_readiness", "static_readiness",
    "other_model", "other_openai_model", "other_embedding_model", "empty_output", "no_tokens", "error_in_stream",
    "lost_traces", "hung_stream",
)  # fmt: skip


@dataclass
class StandInGateway:
    """Responds to every path that a smoke run requests. `fault` names the one thing that it does wrong."""

    key: str
    fault: str | None = None
    url: str = ""
    chats: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def application(self) -> web.Application:
        """The routes of the stand-in."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/v1/meta", self._meta),
                web.post("/v1/platform/chat", self._chat),
                web.post("/v1/chat/completions", self._completions),
                web.get("/v1/models", self._models),
                web.post("/v1/embeddings", self._embeddings),
                web.get("/metrics", self._metrics),
                web.get("/v1/platform/audit", self._audit),
                web.get("/v1/platform/usage", self._usage),
                web.get("/{backend:jaeger|tempo|empty}/{trace_id}", self._trace),
            ]
        )
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        if self.fault == "hung":
            await self.closing.wait()
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        if self.fault == "static_readiness":
            return web.Response(text="ok")
        ready = self.fault not in ("not_ready", "lying_readiness")
        check = {"name": "redis", "ok": ready, "required": True, "detail": "ok" if ready else "connection refused"}
        return web.json_response(
            {"status": "ready" if ready else "unready", "checks": [check]},
            status=503 if self.fault == "not_ready" else 200,
        )

    async def _meta(self, _: web.Request) -> web.Response:
        if self.fault == "other_service":
            return web.Response(text="<html>Welcome</html>", content_type="text/html")
        sha = "f" * 16 if self.fault == "other_commit" else SHA
        return web.json_response({"service": "flowbiz-ai-platform", "version": "0.1.0", "build_sha": sha})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if self.fault != "open_door" and "Authorization" not in request.headers:
            challenge = {} if self.fault == "no_challenge" else {"WWW-Authenticate": "Bearer"}
            return _error(401, "missing_credentials", challenge)
        if self.fault not in ("open_door", "any_key") and request.headers["Authorization"] != f"Bearer {self.key}":
            return _error(401, "invalid_api_key")
        if self.fault == "key_refused":
            return _error(401, "invalid_api_key")
        if self.fault == "provider_down":
            return _error(502, "provider_error")
        self.chats += 1
        if (await request.json()).get("stream"):
            return await self._stream(request)
        body = {
            "status": "ok",
            "model": "sim-other" if self.fault == "other_model" else "sim-ok",
            "output": "" if self.fault == "empty_output" else "pong",
            "usage": {**_USAGE, "total_tokens": 0} if self.fault == "no_tokens" else _USAGE,
            "trace_id": TRACE_ID,
            "duration_ms": 3,
        }
        return web.json_response(body, headers={} if self.fault == "no_limit_headers" else _LIMITS)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: delta\ndata: {}\n\n")
        if self.fault == "hung_stream":
            await self.closing.wait()
        elif self.fault == "error_in_stream":
            await response.write(b'event: error\ndata: {"error": {"code": "provider_error"}}\n\n')
        elif self.fault != "cut_stream":
            await response.write(b"event: done\ndata: {}\n\n")
        return response

    async def _completions(self, _: web.Request) -> web.Response:
        if self.fault == "no_openai_route":
            return _error(404, "not_found")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "pong"}}
        choices = [] if self.fault == "empty_completion" else [choice]
        return web.json_response(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "sim-other" if self.fault == "other_openai_model" else "sim-ok",
                "choices": choices,
                "usage": _USAGE,
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        if self.fault == "no_models_scope":
            return _error(403, "insufficient_scope")
        return web.json_response({"object": "list", "data": [{"id": "sim-embedding", "kind": "embedding"}]})

    async def _embeddings(self, _: web.Request) -> web.Response:
        if self.fault == "broken_embeddings":
            return _error(500, "internal_error")
        vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
        model = "sim-other" if self.fault == "other_embedding_model" else "sim-embedding"
        return web.json_response({"object": "list", "model": model, "data": [vector], "usage": _USAGE})

    async def _metrics(self, _: web.Request) -> web.Response:
        count = 1 if self.fault == "frozen_metrics" else 1 + self.chats
        labels = 'method="POST",route="/v1/platform/chat",status="200"'
        exported = 0 if self.fault == "lost_traces" else self.chats
        return web.Response(
            text=f"# TYPE platform_http_requests counter\nplatform_http_requests_total{{{labels}}} {count}\n"
            f'# TYPE platform_traces_kept counter\nplatform_traces_kept_total{{reason="sampled"}} {self.chats}\n'
            f'# TYPE platform_trace_spans counter\nplatform_trace_spans_total{{outcome="exported"}} {exported}\n'
            f'platform_trace_spans_total{{outcome="failed"}} {self.chats - exported}\n'
        )

    async def _audit(self, _: web.Request) -> web.Response:
        if self.fault == "no_audit_scope":
            return _error(403, "insufficient_scope")
        entries: list[dict[str, Any]] = [{"kind": "access", "trace_id": TRACE_ID, "decision": "allow"}]
        return web.json_response({"data": [] if self.fault == "no_audit" else entries, "next_cursor": None})

    async def _usage(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [], "totals": {"requests": 0 if self.fault == "no_usage" else self.chats}})

    async def _trace(self, request: web.Request) -> web.Response:
        trace_id = request.match_info["trace_id"]
        form = {"jaeger": trace_id, "tempo": base64.b64encode(bytes.fromhex(trace_id)).decode(), "empty": ""}
        return web.json_response({"spans": [{"traceId": form[request.match_info["backend"]]}]})


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": "stand-in"}}, status=status, headers=headers)


@asynccontextmanager
async def stand_in_gateway(key: str, fault: str | None = None) -> AsyncIterator[StandInGateway]:
    """A stand-in on a free port of this machine."""
    assert fault is None or fault in FAULTS, fault
    gateway = StandInGateway(key, fault)
    runner = web.AppRunner(gateway.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gateway
    finally:
        gateway.closing.set()
        await runner.cleanup()
