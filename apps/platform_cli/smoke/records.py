"""Smoke checks of what earlier requests left behind: a metric, an access decision, a usage record."""

from collections.abc import Mapping

from apps.platform_cli.smoke.result import CheckFailed, CheckSkipped
from apps.platform_cli.smoke.session import (
    CHAT_PATH,
    SmokeSession,
    becomes_true,
    json_object,
    shown,
    skip_if_forbidden,
)

_LEDGER_REMEDY = "Look at platform_ledger_* in the metrics and for ledger_* in the log: the spool is not shipped."


async def note_counts(smoke: SmokeSession) -> None:
    """Read the metrics and the usage before the first chat request, to see later whether they moved. Failures are
    reported by the checks that need the counts."""
    if smoke.options.metrics_url is not None:
        try:
            smoke.counters_before = await smoke.counters()
        except CheckFailed as failed:
            smoke.counters_before = failed
    try:
        smoke.usage_before = await _own_requests(smoke)
    except (CheckFailed, CheckSkipped) as problem:
        smoke.usage_before = problem


async def metrics(smoke: SmokeSession) -> str:
    """The metrics count the chat request of this run."""
    if smoke.counters_before is None:
        raise CheckSkipped("no --metrics-url was given")
    if isinstance(smoke.counters_before, CheckFailed):
        raise smoke.counters_before
    chat_of(smoke)
    now = before = smoke.counters_before.chat_requests

    async def counted() -> bool:
        nonlocal now
        now = (await smoke.counters()).chat_requests
        return now > before

    if not await becomes_true(counted, smoke.options.record_seconds):
        raise CheckFailed(
            f"platform_http_requests_total of {CHAT_PATH} above {before:g} within {smoke.options.record_seconds:g} s",
            f"{now:g}",
            "Name one and the same instance with --base-url and --metrics-url, not a load balancer.",
        )
    return f"platform_http_requests_total of {CHAT_PATH}: {before:g}, now {now:g}"


async def audit(smoke: SmokeSession) -> str:
    """The audit holds the access decision of the chat request."""
    trace_id = str(chat_of(smoke).get("trace_id"))
    found: Mapping[str, object] = {}

    async def recorded() -> bool:
        nonlocal found
        response = await smoke.get("/v1/platform/audit", authenticated=True, kind="access", trace_id=trace_id)
        skip_if_forbidden(response.status_code, "platform:audit:read")
        if response.status_code != 200:
            raise CheckFailed("200 from GET /v1/platform/audit", shown(response), _LEDGER_REMEDY)
        entries = json_object(response).get("data") or []
        found = entries[0] if entries else {}
        return bool(entries)

    if not await becomes_true(recorded, smoke.options.record_seconds):
        expected = f"an access decision with trace_id {trace_id} within {smoke.options.record_seconds:g} s"
        raise CheckFailed(expected, "no entry", _LEDGER_REMEDY)
    if found.get("decision") != "allow":
        raise CheckFailed("the decision allow", f"{found.get('decision')}: {found.get('reason')}", _LEDGER_REMEDY)
    return f"trace_id {trace_id}: {found['decision']}"


async def usage(smoke: SmokeSession) -> str:
    """The usage of this key counts the chat request."""
    chat_of(smoke)
    before = smoke.usage_before
    if before is None or isinstance(before, Exception):
        raise before or CheckSkipped("the usage was not read before the chat request")
    now = before

    async def counted() -> bool:
        nonlocal now
        now = await _own_requests(smoke)
        return now > before

    if not await becomes_true(counted, smoke.options.record_seconds):
        expected = f"more than {before} requests in the key's usage within {smoke.options.record_seconds:g} s"
        raise CheckFailed(expected, f"{now} requests", _LEDGER_REMEDY)
    return f"requests of this key: {before}, now {now}"


async def _own_requests(smoke: SmokeSession) -> int:
    """Return how many requests the usage totals hold for this key. Every key may read its own usage."""
    key_id = smoke.options.key.split("_")[2]
    response = await smoke.get(
        "/v1/platform/usage", authenticated=True, key_id=key_id, group_by="key", **smoke.usage_days
    )
    skip_if_forbidden(response.status_code, "platform:usage:read")
    totals = json_object(response).get("totals")
    if response.status_code != 200 or not isinstance(totals, dict) or "requests" not in totals:
        raise CheckFailed("200 with totals from GET /v1/platform/usage", shown(response), _LEDGER_REMEDY)
    return int(totals["requests"])


def chat_of(smoke: SmokeSession) -> Mapping[str, object]:
    """Return the body of the chat response. Raises CheckSkipped if there is none."""
    if smoke.chat_body is None:
        raise CheckSkipped("the chat check has no successful response")
    return smoke.chat_body
