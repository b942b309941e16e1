"""The smoke checks in the order in which they run, and the run itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from apps.platform_cli.smoke import health, models, records, traces
from apps.platform_cli.smoke.result import CheckFailed, CheckResult, CheckSkipped
from apps.platform_cli.smoke.session import SmokeOptions, SmokeSession, open_session

SmokeCheck = Callable[[SmokeSession], Awaitable[str]]
"""Returns what was received. Raises CheckFailed or CheckSkipped."""

CHECKS: Mapping[str, SmokeCheck] = {
    "liveness": health.liveness,
    "readiness": health.readiness,
    "commit": health.commit,
    "credentials": health.credentials,
    "chat": models.chat,
    "limit headers": models.limit_headers,
    "stream": models.stream,
    "openai client": models.openai_client,
    "embeddings": models.embeddings,
    "metrics": records.metrics,
    "trace": traces.trace,
    "audit": records.audit,
    "usage": records.usage,
}


async def run_checks(options: SmokeOptions) -> AsyncIterator[CheckResult]:
    """Run every check in turn before one deadline, and yield each result as it is known.

    The check that is running when the deadline passes has failed; those after it are not run.
    """
    deadline = asyncio.get_running_loop().time() + options.timeout_seconds
    out_of_time: str | None = None
    async with open_session(options) as smoke:
        for name, check in CHECKS.items():
            started = time.monotonic()
            smoke.progress = ""
            if out_of_time is not None:
                yield CheckResult(name, "skipped", 0.0, f"not run: the deadline passed during the check {out_of_time}")
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    if check is models.chat:
                        await records.note_counts(smoke)
                    detail = await check(smoke)
            except CheckSkipped as skipped:
                yield CheckResult(name, "skipped", _since(started), str(skipped))
            except CheckFailed as failed:
                yield _failure(name, started, failed)
            except TimeoutError:
                out_of_time = name
                yield _failure(name, started, _out_of_time(check, options.timeout_seconds, smoke.progress))
            else:
                yield CheckResult(name, "passed", _since(started), detail)


def _out_of_time(check: SmokeCheck, seconds: float, progress: str) -> CheckFailed:
    expected = (check.__doc__ or "").partition(".")[0]
    return CheckFailed(
        f"{expected}, before the deadline",
        f"no result: the deadline of {seconds:g} s passed" + (f" after {progress}" if progress else ""),
        "Look for the first check that took long; --timeout sets the deadline in seconds.",
    )


def _failure(name: str, started: float, failed: CheckFailed) -> CheckResult:
    return CheckResult(name, "failed", _since(started), failed.received, failed.expected, failed.remedy)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
