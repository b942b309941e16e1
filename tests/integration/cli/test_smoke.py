"""`flowbiz-platform smoke`: it passes on a healthy gateway and names what is wrong with a broken one."""

import os
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from apps.platform_cli.smoke.checks import CHECKS, run_checks
from apps.platform_cli.smoke.result import CheckResult
from apps.platform_cli.smoke.session import SmokeOptions
from platform_app.auth.tokens import generate_token
from tests.support.commands.command_line import run_command
from tests.support.servers.network.ports import free_port
from tests.support.servers.stand_in_gateway import FAULTS, SHA, StandInGateway, stand_in_gateway

KEY = generate_token("test").text
DEADLINE_SECONDS = 300.0
RULES = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 600, "window_seconds": 60}]}
BROKEN: dict[str, tuple[str, str, str]] = {
    # fault: the failed check, what it received, what to do
    "not_ready": ("readiness", "503 unready: redis (connection refused)", "check"),
    "other_commit": ("commit", "build_sha ffffffffffffffff", "finish the deploy"),
    "other_service": ("commit", "200 <html>Welcome</html>", "not of another service"),
    "open_door": ("credentials", "200", "Do not send traffic here"),
    "no_challenge": ("credentials", "without WWW-Authenticate", "proxy"),
    "any_key": ("credentials", "200", "keys are not checked"),
    "lying_readiness": ("readiness", "200 unready: redis (connection refused)", "does not follow its checks"),
    "static_readiness": ("readiness", "200 ok", "sends its own response"),
    "other_model": ("chat", "a response of the model sim-other", "mixes responses"),
    "empty_output": ("chat", "output ''", "X-Request-ID"),
    "no_tokens": ("chat", "output 'pong', 0 tokens", "X-Request-ID"),
    "other_openai_model": ("openai client", "a response of the model sim-other", "mixes responses"),
    "other_embedding_model": ("embeddings", "a response of the model sim-other", "mixes responses"),
    "error_in_stream": (
        "stream",
        '2 events, the last one error: {"error": {"code": "provider_error"}}',
        "X-Request-ID",
    ),
    "lost_traces": ("trace", "0 exported; failed or dropped: ", "trace_export_failed"),
    "key_refused": ("chat", "401 invalid_api_key: stand-in", "--key"),
    "provider_down": ("chat", "502 provider_error: stand-in", "flowbiz-platform check"),
    "no_limit_headers": ("limit headers", "without ratelimit-policy", "rate_limits"),
    "cut_stream": ("stream", "1 events, the last one delta", "proxy"),
    "no_openai_route": ("openai client", "404 not_found: stand-in", "--model"),
    "empty_completion": ("openai client", "without choices", "--base-url"),
    "broken_embeddings": ("embeddings", "500 internal_error: stand-in", "X-Request-ID"),
    "frozen_metrics": ("metrics", "1", "--metrics-url"),
    "no_audit": ("audit", "no entry", "spool"),
    "no_usage": ("usage", "0 requests", "spool"),
}


def smoke(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    whole = {"PATH": os.environ.get("PATH", ""), "COLUMNS": "200", **environment}
    return run_command(whole, "smoke", "--timeout", str(DEADLINE_SECONDS), *arguments, seconds=600)


async def results_of(gateway: StandInGateway, **options: Any) -> dict[str, CheckResult]:
    """The results of a run against a stand-in, by name."""
    wanted = SmokeOptions(
        gateway.url, KEY, expect_sha=SHA, metrics_url=f"{gateway.url}/metrics", model="sim-ok",
        timeout_seconds=DEADLINE_SECONDS, record_seconds=0.3,
    )  # fmt: skip
    return {result.name: result async for result in run_checks(replace(wanted, **options))}


async def test_smoke_passes_on_the_stand_in() -> None:
    async with stand_in_gateway(KEY) as gateway:
        results = await results_of(gateway)
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(CHECKS, "passed")


@pytest.mark.parametrize("fault", BROKEN)
async def test_smoke_names_what_is_broken(fault: str) -> None:
    name, received, remedy = BROKEN[fault]
    async with stand_in_gateway(KEY, fault) as gateway:
        results = await results_of(gateway)
    failed = {name: result for name, result in results.items() if result.status == "failed"}
    assert name in failed
    assert received in failed[name].detail
    assert remedy in (failed[name].remedy or "")
    assert failed[name].expected
    expected = {name} if fault not in ("key_refused", "provider_down") else {name, "stream"}
    assert failed.keys() == expected, {each: result.detail for each, result in failed.items()}


@pytest.mark.parametrize(
    ("fault", "name", "scope"),
    [
        ("no_audit_scope", "audit", "platform:audit:read"),
        ("no_models_scope", "embeddings", "platform:models:read"),
    ],
)
async def test_smoke_missing_scope_skips_check(fault: str, name: str, scope: str) -> None:
    async with stand_in_gateway(KEY, fault) as gateway:
        results = await results_of(gateway)
    assert results[name].status == "skipped"
    assert scope in results[name].detail


async def test_smoke_without_metrics_url_skips_metrics() -> None:
    async with stand_in_gateway(KEY) as gateway:
        results = await results_of(gateway, metrics_url=None)
    assert (results["metrics"].status, results["metrics"].detail) == ("skipped", "no --metrics-url was given")


async def test_smoke_hung_gateway_ends_at_deadline() -> None:
    async with stand_in_gateway(KEY, "hung") as gateway:
        results = await results_of(gateway, timeout_seconds=0.5)
    statuses = [result.status for result in results.values()]
    assert statuses == ["failed"] + ["skipped"] * (len(CHECKS) - 1)
    assert results["commit"].detail == "not run: the deadline passed during the check liveness"
    assert results["liveness"].detail == "no result: the deadline of 0.5 s passed"
    assert results["liveness"].expected == "GET /livez returns 200: the process runs, before the deadline"


async def test_smoke_hung_stream_shows_what_arrived() -> None:
    async with stand_in_gateway(KEY, "hung_stream") as gateway:
        results = await results_of(gateway, timeout_seconds=3.0)
    failed = [name for name, result in results.items() if result.status == "failed"]
    assert len(failed) == 1  # on a machine that stops, an earlier one
    if failed == ["stream"]:
        assert results["stream"].detail.endswith("passed after 1 events, the last one delta")


@pytest.mark.parametrize(
    ("url", "status", "detail"),
    [
        ("/jaeger/{trace_id}", "passed", "is in the backend"),
        ("/tempo/{trace_id}", "passed", "is in the backend"),
        ("/empty/{trace_id}", "failed", "200 without this trace"),
        ("/none/{trace_id}", "failed", "404 without this trace"),
    ],
)
async def test_smoke_trace_url_finds_trace(url: str, status: str, detail: str) -> None:
    async with stand_in_gateway(KEY) as gateway:
        results = await results_of(gateway, trace_url=gateway.url + url)
    assert results["trace"].status == status
    assert detail in results["trace"].detail


def test_smoke_unreachable_gateway_exits_with_one() -> None:
    done = smoke({}, "--base-url", f"http://127.0.0.1:{free_port()}", "--key", KEY)
    assert done.returncode == 1
    assert "FAIL  liveness         received: no response: it refuses connections" in done.stdout
    assert "to do: Check that it runs, and that --base-url names its host and its port." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--base-url", "gateway.example", "--key", KEY], "--base-url: expected a URL"),
        (["--base-url", "http://127.0.0.1:1", "--key", KEY[:-1]], "--key: not an API key"),
        (["--key", KEY], "--base-url"),
        (["--base-url", "http://a.example", "--key", KEY, "--trace-url", "http://b.example/x"], "{trace_id}"),
    ],
)
def test_smoke_wrong_usage_exits_with_two(arguments: list[str], words: str) -> None:
    done = smoke({}, *arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert KEY not in done.stdout + done.stderr


def test_smoke_fault_list_is_complete() -> None:
    assert {*BROKEN, "hung", "hung_stream", "no_audit_scope", "no_models_scope"} == set(FAULTS)
