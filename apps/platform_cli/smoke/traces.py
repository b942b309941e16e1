"""The smoke check of the chat request's trace: in the trace backend, or as counted by the exporter."""

import base64
import re

import httpx

from apps.platform_cli.smoke.records import chat_of
from apps.platform_cli.smoke.result import CheckFailed, CheckSkipped
from apps.platform_cli.smoke.session import Counters, SmokeSession, becomes_true, why_no_response

_REMEDY = (
    "Check OTEL_EXPORTER_OTLP_ENDPOINT and the collector; the log line trace_export_failed names the reason, "
    "docs/observability.md explains the counters."
)


async def trace(smoke: SmokeSession) -> str:
    """The trace of the chat request arrives at the trace backend, or at the collector."""
    trace_id = str(chat_of(smoke).get("trace_id"))
    if not re.fullmatch("[0-9a-f]{32}", trace_id):
        raise CheckFailed("a trace_id of 32 hexadecimal digits in the chat response", trace_id, _REMEDY)
    if smoke.options.trace_url is not None:
        return await _in_backend(smoke, smoke.options.trace_url.replace("{trace_id}", trace_id), trace_id)
    if smoke.counters_before is None:
        raise CheckSkipped("neither --trace-url nor --metrics-url was given")
    if isinstance(smoke.counters_before, CheckFailed):
        raise CheckSkipped("the metrics check could not read the metrics")
    return await _as_counted(smoke, smoke.counters_before)


async def _in_backend(smoke: SmokeSession, url: str, trace_id: str) -> str:
    """Look for the trace. Backends write its id as hexadecimal digits (Jaeger, Phoenix) or as base64 (Tempo)."""
    forms = (trace_id, base64.b64encode(bytes.fromhex(trace_id)).decode())
    received = "no response"

    async def arrived() -> bool:
        nonlocal received
        try:
            response = await smoke.http.get(url)
        except httpx.HTTPError as error:
            received = f"no response: {why_no_response(error, '--trace-url')}"
            return False
        received = f"{response.status_code} without this trace"
        return response.is_success and any(form in response.text for form in forms)

    if not await becomes_true(arrived, smoke.options.record_seconds):
        expected = f"trace {trace_id} from GET {url} within {smoke.options.record_seconds:g} s"
        raise CheckFailed(expected, received, _REMEDY)
    return f"trace {trace_id} is in the backend"


async def _as_counted(smoke: SmokeSession, before: Counters) -> str:
    """Compare the exporter's counters with those before the chat request, which asked to be sampled."""
    now = before

    async def exported() -> bool:
        nonlocal now
        now = await smoke.counters()
        return now.spans_exported > before.spans_exported or now.traces_kept == before.traces_kept

    arrived = await becomes_true(exported, smoke.options.record_seconds)
    if now.traces_kept == before.traces_kept:
        raise CheckSkipped("the gateway exports no traces: OTEL_EXPORTER_OTLP_ENDPOINT is not set there")
    if not arrived:
        raise CheckFailed(
            f"platform_trace_spans_total of exported spans above {before.spans_exported:g} "
            f"within {smoke.options.record_seconds:g} s",
            f"{now.spans_exported:g} exported; failed or dropped: {now.spans_lost - before.spans_lost:g} more",
            _REMEDY,
        )
    return f"spans exported: {before.spans_exported:g}, now {now.spans_exported:g}"
