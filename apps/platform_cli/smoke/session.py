"""What the smoke checks share: the options, one HTTP client, the official OpenAI client, and earlier responses."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from prometheus_client.parser import text_string_to_metric_families

from apps.platform_cli.smoke.addresses import client_options, via_proxy
from apps.platform_cli.smoke.result import CheckFailed, CheckSkipped
from platform_app.connection_failures import Failure, server_failure

CHAT_PATH = "/v1/platform/chat"
PROMPT = "Reply with the word: pong"
_POLL_SECONDS = 0.25
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """What the operator asked for."""

    base_url: str
    key: str = field(repr=False)
    expect_sha: str | None = None
    metrics_url: str | None = None
    model: str | None = None
    embedding_model: str | None = None
    timeout_seconds: float = 60.0
    trace_url: str | None = None
    """Where the trace backend returns one trace; `{trace_id}` is replaced."""
    record_seconds: float = 15.0
    """The longest wait for a metric, a trace or a record of an earlier request; all are written in the background."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of the gateway's metrics."""

    chat_requests: float
    """Successful chat requests."""
    traces_kept: float
    """Requests whose trace is to be exported."""
    spans_exported: float
    spans_lost: float
    """Spans that the collector did not receive."""


def days_around_today() -> Mapping[str, str]:
    """Return `since` and `until` (exclusive) of a usage that has every day of this run, also if midnight passes or the
    clocks of the two machines differ."""
    today = datetime.now(UTC).date()
    return {"since": str(today - timedelta(days=1)), "until": str(today + timedelta(days=3))}


@dataclass(slots=True)
class SmokeSession:
    """One run against one gateway."""

    options: SmokeOptions
    http: httpx.AsyncClient
    openai: AsyncOpenAI
    chat_headers: Mapping[str, str] | None = None
    """The headers of the successful chat response; None before it."""
    chat_body: Mapping[str, Any] | None = None
    ready: bool = False
    """Whether the readiness check passed."""
    counters_before: "Counters | CheckFailed | None" = None
    """The metrics before the chat check, or why they could not be read; None without --metrics-url."""
    usage_before: int | CheckFailed | CheckSkipped | None = None
    """Requests in the usage of this key before the chat check, or why it could not be read."""
    usage_days: Mapping[str, str] = field(default_factory=days_around_today)
    """The days whose usage is compared: fixed, because by default the first one leaves at midnight UTC."""
    progress: str = ""
    """What the running check has received so far; shown if the deadline passes."""

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header that authenticates this key."""
        return {"Authorization": f"Bearer {self.options.key}"}

    @property
    def sampled(self) -> Mapping[str, str]:
        """A new trace context (W3C) with the sampled flag: the gateway exports the trace of this request."""
        return {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}

    async def get(self, path: str, *, authenticated: bool = False, **query: str) -> httpx.Response:
        """Send a GET request.

        Raises:
            CheckFailed: the gateway cannot be reached.
        """
        headers = self.authorization if authenticated else {}
        return await self._send("GET", path, headers=headers, params=query)

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a POST request with a JSON body. Raises like `get`."""
        return await self._send("POST", path, headers=headers or {}, json=body)

    @asynccontextmanager
    async def stream(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """Send a POST request and read its response while it arrives. Raises like `get` before the response's head."""
        request = self.http.build_request("POST", self.options.base_url + path, json=body, headers=headers)
        try:
            response = await self.http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        try:
            yield response
        finally:
            await response.aclose()

    async def counters(self) -> "Counters":
        """Return what the gateway's metrics have counted.

        Raises:
            CheckFailed: the metrics cannot be read.
        """
        url = self.options.metrics_url or ""
        expected = f"200 with Prometheus metrics from GET {url}"
        remedy = "Check --metrics-url and that PLATFORM_METRICS_HOST lets this machine connect."
        try:
            response = await self.http.get(url)
            families = list(text_string_to_metric_families(response.text)) if response.is_success else []
        except httpx.HTTPError as error:
            why = why_no_response(error, "--metrics-url")
            raise CheckFailed(
                expected, f"no response: {why.cause}", f"{remedy} Also {why.remedy}.{via_proxy(url)}"
            ) from None
        except ValueError as error:
            raise CheckFailed(expected, f"{type(error).__name__}: {error}", remedy) from None
        if not families:
            raise CheckFailed(expected, shown(response), remedy)
        samples = [sample for family in families for sample in family.samples]

        def total(name: str, **labels: str) -> float:
            return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())

        return Counters(
            total("platform_http_requests_total", route=CHAT_PATH, status="200"),
            total("platform_traces_kept_total"),
            total("platform_trace_spans_total", outcome="exported"),
            total("platform_trace_spans_total", outcome="failed")
            + total("platform_trace_spans_total", outcome="dropped"),
        )

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self.http.request(method, self.options.base_url + path, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.HTTPError) -> CheckFailed:
        why = why_no_response(error, "--base-url")
        return CheckFailed(
            f"an HTTP response from {self.options.base_url}",
            f"no response: {why.cause}",
            f"{why.remedy[0].upper()}{why.remedy[1:]}.{via_proxy(self.options.base_url)}",
        )


@asynccontextmanager
async def open_session(options: SmokeOptions) -> AsyncIterator[SmokeSession]:
    """Open both clients. Neither retries: a retry would hide what the first request met."""
    urls = [url for url in (options.base_url, options.metrics_url, options.trace_url) if url is not None]
    openai = AsyncOpenAI(
        api_key=options.key,
        base_url=f"{options.base_url}/v1",
        max_retries=0,
        timeout=options.timeout_seconds,
        http_client=DefaultAsyncHttpxClient(**client_options([options.base_url])),
    )
    async with httpx.AsyncClient(timeout=options.timeout_seconds, **client_options(urls)) as http, openai:
        yield SmokeSession(options, http, openai)


def why_no_response(error: Exception, option: str) -> Failure:
    """Return the cause and the next step. `option` holds the server's address."""
    return server_failure(error, option, "SSL_CERT_FILE")


def json_object(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object of a response, or an empty one if the body is not a JSON object."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def error_code(response: httpx.Response) -> str | None:
    """Return the `error.code` of a refused request."""
    error = json_object(response).get("error")
    return str(error["code"]) if isinstance(error, dict) and "code" in error else None


def shown(response: httpx.Response) -> str:
    """Describe a response in one line: its status, and its error message or the start of its body."""
    error = json_object(response).get("error")
    if isinstance(error, dict):
        return f"{response.status_code} {error.get('code')}: {error.get('message')}"
    text = " ".join(response.text[:_MAX_SHOWN].split())
    return f"{response.status_code} {text}" if text else f"{response.status_code} with an empty body"


def skip_if_forbidden(status: int, scope: str) -> None:
    """Raise CheckSkipped if the gateway refused the request because the key lacks a scope."""
    if status == 403:
        raise CheckSkipped(f"the key lacks the scope {scope}; use a key that has it")


async def becomes_true(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Poll until the condition is true; return False if it is not within so many seconds."""
    until = asyncio.get_running_loop().time() + seconds
    while not await condition():
        if asyncio.get_running_loop().time() >= until:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
