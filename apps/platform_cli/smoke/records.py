"""Smoke checks of what earlier requests left behind: a metric, an access decision, a usage record."""

from collections.abc import Mapping

from apps.platform_cli.smoke.result import CheckFailed, CheckSkipped
from apps.platform_cli.smoke.session import (
    CHAT_PATH,
    RECORD_SECONDS,
    SmokeSession,
    becomes_true,
    json_object,
    shown,
    skip_if_forbidden,
)

_LEDGER_REMEDY = "Look at platform_ledger_* in the metrics and for ledger_* in the log: the spool is not shipped."


async def note_counts(smoke: SmokeSession) -> None:
    """Read the metric and the usage before the first chat request, to see later whether they moved. Failures are
    reported by the checks that need the counts."""
    try:
        if smoke.options.metrics_url is not None:
            smoke.requests_before = await smoke.chat_requests()
        smoke.usage_before = await _own_requests(smoke)
    except (CheckFailed, CheckSkipped):
        return


async def metrics(smoke: SmokeSession) -> str:
    """The metrics count the chat request of this run."""
    if smoke.options.metrics_url is None:
        raise CheckSkipped("no --metrics-url was given")
    now = await smoke.chat_requests()
    _chat_of(smoke)
    before = smoke.requests_before or 0.0

    async def counted() -> bool:
        nonlocal now
        now = await smoke.chat_requests()
        return now > before

    if not await becomes_true(counted):
        raise CheckFailed(
            f"platform_http_requests_total of {CHAT_PATH} above {before:g} within {RECORD_SECONDS:g} s",
            f"{now:g}",
            "Name one and the same instance with --base-url and --metrics-url, not a load balancer.",
        )
    return f"platform_http_requests_total of {CHAT_PATH}: {before:g}, now {now:g}"


async def audit(smoke: SmokeSession) -> str:
    """The audit holds the access decision of the chat request."""
    trace_id = str(_chat_of(smoke)["trace_id"])
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

    if not await becomes_true(recorded):
        expected = f"an access decision with trace_id {trace_id} within {RECORD_SECONDS:g} s"
        raise CheckFailed(expected, "no entry", _LEDGER_REMEDY)
    if found.get("decision") != "allow":
        raise CheckFailed("the decision allow", f"{found.get('decision')}: {found.get('reason')}", _LEDGER_REMEDY)
    return f"trace_id {trace_id}: {found['decision']}"


async def usage(smoke: SmokeSession) -> str:
    """The usage of this key counts the chat request."""
    _chat_of(smoke)
    now = await _own_requests(smoke)
    before = smoke.usage_before or 0

    async def counted() -> bool:
        nonlocal now
        now = await _own_requests(smoke)
        return now > before

    if not await becomes_true(counted):
        expected = f"more than {before} requests in the key's usage within {RECORD_SECONDS:g} s"
        raise CheckFailed(expected, f"{now} requests", _LEDGER_REMEDY)
    return f"requests of this key today: {before}, now {now}"


async def _own_requests(smoke: SmokeSession) -> int:
    """Return how many requests the usage totals hold for this key. Every key may read its own usage."""
    key_id = smoke.options.key.split("_")[2]
    response = await smoke.get("/v1/platform/usage", authenticated=True, key_id=key_id, group_by="key")
    skip_if_forbidden(response.status_code, "platform:usage:read")
    totals = json_object(response).get("totals")
    if response.status_code != 200 or not isinstance(totals, dict) or "requests" not in totals:
        raise CheckFailed("200 with totals from GET /v1/platform/usage", shown(response), _LEDGER_REMEDY)
    return int(totals["requests"])


def _chat_of(smoke: SmokeSession) -> Mapping[str, object]:
    """Return the body of the chat response. Raises CheckSkipped if there is none."""
    if smoke.chat_body is None:
        raise CheckSkipped("the chat check has no successful response")
    return smoke.chat_body
