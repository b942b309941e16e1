"""Run the comparison: start everything, pin the subject to one core, and print one table of ratios."""

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from apps.platform_cli.dev.keys import ensure_dev_keys
from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.processes import descendants
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from bench.load import Result, run_load
from platform_app.db import migrations

_PORTS = {"simulator": 18400, "bare": 18401, "gateway": 18402, "metrics": 18403, "portkey": 18404, "collector": 18405}
_TRACED_PORT = 18410
"""The first of the ports of gateways with traces; each takes two."""
_TRACE_PERCENTAGES = (0, 10, 100)
_PATH = "/v1/platform/chat"
_CONFIG = """
providers:
  simulator: {{base_url: "{upstream}", api_key_secret: OPENAI_API_KEY}}
  responses: {{base_url: "{upstream}", api_key_secret: OPENAI_API_KEY, wire_format: openai-responses}}
  messages: {{base_url: "{root}/anthropic", api_key_secret: OPENAI_API_KEY, wire_format: anthropic}}
models:
  sim-ok: {{routes: [{{provider: simulator, model: sim-ok}}]}}
  sim-ok@responses: {{routes: [{{provider: responses, model: sim-ok@responses}}]}}
  sim-ok@messages: {{routes: [{{provider: messages, model: sim-ok@messages}}]}}
rate_limits:
  rules:
    - {{name: key-rpm, scope: key, limit: 100000000, window_seconds: 60}}
    - {{name: route-rpm, scope: route, limit: 100000000, window_seconds: 60}}
    - {{name: key-tpm, scope: key, unit: tokens, limit: 1000000000, window_seconds: 60}}
    - {{name: key-at-once, scope: key, unit: concurrent, limit: 100000}}
"""
_BARE_BODY = '{"model": "sim-ok", "messages": [{"role": "user", "content": "Say hello to the bench."}]}'
_BODY = '{"messages": [{"role": "user", "content": "Say hello to the bench."}]}'
_RESPONSES_BODY = '{"model": "%s", "input": "Say hello to the bench."}'
_MESSAGES_BODY = (
    '{"model": "%s", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello to the bench."}]}'
)
_FORMATS = (
    ("responses, passed", "/v1/responses", _RESPONSES_BODY % "sim-ok@responses", 0.90),
    ("responses, translated", "/v1/responses", _RESPONSES_BODY % "sim-ok", 0.60),
    ("messages, passed", "/v1/messages", _MESSAGES_BODY % "sim-ok@messages", 0.90),
    ("messages, translated", "/v1/messages", _MESSAGES_BODY % "sim-ok", 0.60),
)
"""Name, path, body, and the least share of the OpenAI route's throughput."""


@dataclass(frozen=True)
class Subject:
    """A server that receives load."""

    name: str
    url: str
    body: str
    headers: Mapping[str, str]


def compare(
    seconds: float,
    rounds: int,
    connections: int,
    portkey: Path | None = None,
    *,
    traces: bool = False,
    formats: bool = False,
) -> int:
    """Print the table. Rounds of the subjects alternate, so that load of the machine affects all alike."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subjects = [*_start(stack, directory, portkey, traces=traces, formats=formats)]
        results: dict[str, list[Result]] = {subject.name: [] for subject in subjects}
        single: dict[str, list[Result]] = {subject.name: [] for subject in subjects}
        for subject in subjects:
            run_load(subject.url, subject.headers, subject.body, connections, 1)  # warm up
        for _ in range(rounds):
            for subject in subjects:
                results[subject.name].append(run_load(subject.url, subject.headers, subject.body, connections, seconds))
                single[subject.name].append(run_load(subject.url, subject.headers, subject.body, 1, 2))
    return _report(results, single, connections)


def _report(results: dict[str, list[Result]], single: dict[str, list[Result]], connections: int) -> int:
    print(f"{'':<22}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'p50 ms, 1 connection':>24}{'failed':>8}")
    best = {}
    for name, rounds in results.items():
        top = max(rounds, key=lambda result: result.requests_per_second)
        alone = min(result.p50_ms for result in single[name])
        failed = sum(result.failures for result in rounds + single[name])
        best[name] = (top.requests_per_second, alone)
        print(
            f"{name:<22}{top.requests_per_second:>12.0f}{top.p50_ms:>10.2f}{top.p99_ms:>10.2f}{alone:>24.2f}{failed:>8}"
        )
    ratio = best["gateway"][0] / best["bare"][0]
    print(f"\ngateway / bare pass-through: {ratio:.0%} of the throughput at {connections} connections")
    if "portkey" in best:
        print(f"openai route / Portkey:      {best['openai route'][0] / best['portkey'][0]:.2f} times the throughput")
    for percentage in _TRACE_PERCENTAGES[1:]:
        if (name := _traced(percentage)) in best:
            share = best[name][0] / best[_traced(0)][0]
            print(f"traces at {percentage:>3} %:             {share:.0%} of the throughput at 0 %")
    for name, *_, least in _FORMATS:
        if name in best:
            share = best[name][0] / best["openai route"][0]
            print(f"{name + ':':<28} {share:.0%} of the OpenAI route's throughput; at least {least:.0%} is the aim")
    print(f"added at 1 connection:       {best['gateway'][1] - best['bare'][1]:.2f} ms p50")
    return 1 if any(result.failures for rounds in results.values() for result in rounds) else 0


def _traced(percentage: int) -> str:
    return f"traces {percentage} %"


def _start(
    stack: ExitStack, directory: Path, portkey: Path | None = None, *, traces: bool = False, formats: bool = False
) -> Iterator[Subject]:
    cores = sorted(os.sched_getaffinity(0))
    subject_core, other_cores = {cores[0]}, set(cores[1:]) or {cores[0]}
    os.sched_setaffinity(0, other_cores)
    upstream = f"http://127.0.0.1:{_PORTS['simulator']}/v1"
    simulator = ["-m", "apps.provider_simulator", "--port", str(_PORTS["simulator"])]
    stack.enter_context(_process(directory, simulator, f"{upstream}/models", {}, other_cores))
    bare = ["-m", "bench.passthrough", str(_PORTS["bare"]), upstream]
    stack.enter_context(_process(directory, bare, f"http://127.0.0.1:{_PORTS['bare']}/docs", {}, subject_core))
    yield Subject("bare", f"http://127.0.0.1:{_PORTS['bare']}{_PATH}", _BARE_BODY, {"Content-Type": "application/json"})

    if portkey is not None:
        yield _start_portkey(stack, directory, portkey, upstream, subject_core)

    postgres = EmbeddedPostgres(directory / "postgres")
    stack.callback(postgres.stop)
    postgres.start()
    postgres.create_database("bench")
    valkey = EmbeddedValkey(directory / "valkey")
    stack.callback(valkey.stop)
    valkey.start()
    url = postgres.url("bench")
    migrations.upgrade(url)
    config = directory / "platform.yaml"
    config.write_text(_CONFIG.format(upstream=upstream, root=upstream.removesuffix("/v1")))
    environment = {
        "PLATFORM_ENV": "dev",
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_REDIS_URL": valkey.url,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "sim-ok",
        "PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}",
        "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
        "OPENAI_API_KEY": "sk-bench",
    }
    _, key = ensure_dev_keys(environment, None, None)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def gateway(port: int, metrics_port: int, changes: Mapping[str, str]) -> str:
        arguments = ["-m", "apps.platform_cli", "serve", "--port", str(port), "--metrics-port", str(metrics_port)]
        base_url = f"http://127.0.0.1:{port}"
        given = {**environment, **changes}
        stack.enter_context(_process(directory, arguments, f"{base_url}/readyz", given, subject_core))
        return base_url

    base_url = gateway(_PORTS["gateway"], _PORTS["metrics"], {})
    yield Subject("gateway", f"{base_url}{_PATH}", _BODY, headers)
    yield Subject("openai route", f"{base_url}/v1/chat/completions", _BARE_BODY, headers)
    if formats:
        yield from (Subject(name, f"{base_url}{path}", body, headers) for name, path, body, _ in _FORMATS)
    if not traces:
        return
    endpoint = f"http://127.0.0.1:{_PORTS['collector']}"
    collector = ["-m", "bench.collector", str(_PORTS["collector"])]
    stack.enter_context(_process(directory, collector, endpoint, {}, other_cores))
    for number, percentage in enumerate(_TRACE_PERCENTAGES):
        port = _TRACED_PORT + 2 * number
        ratio = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "PLATFORM_TRACE_SAMPLE_RATIO": str(percentage / 100)}
        yield Subject(_traced(percentage), f"{gateway(port, port + 1, ratio)}{_PATH}", _BODY, headers)


def _start_portkey(stack: ExitStack, directory: Path, installed: Path, upstream: str, cores: set[int]) -> Subject:
    """Portkey's gateway with its defaults: no auth, no limits, no metrics."""
    server = installed / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.is_file():
        sys.exit(f"{server} does not exist; run `npm install @portkey-ai/gateway` in {installed}")
    url = f"http://127.0.0.1:{_PORTS['portkey']}"
    arguments = [str(server), f"--port={_PORTS['portkey']}", "--headless"]
    stack.enter_context(_process(directory, arguments, url, {}, cores, program="node"))
    headers = {
        "Content-Type": "application/json", "Authorization": "Bearer bench", "x-portkey-provider": "openai",
        "x-portkey-custom-host": upstream,
    }  # fmt: skip
    return Subject("portkey", f"{url}/v1/chat/completions", _BARE_BODY, headers)


@contextmanager
def _process(
    directory: Path,
    arguments: list[str],
    ready_url: str,
    environment: Mapping[str, str],
    cores: set[int],
    program: str = sys.executable,
) -> Iterator[None]:
    name = Path(arguments[1]).name if program == sys.executable else program
    child = ChildProcess(
        name, [program, *arguments], env={**os.environ, **environment}, log_file=directory / f"{name}.log"
    )
    try:
        child.wait_ready(lambda: _answers(ready_url), 30)
        for pid in (child.pid, *descendants(child.pid)):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), cores)
        yield
    finally:
        child.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, headers={"Authorization": "Bearer bench"}).status_code == 200
    except httpx.HTTPError:
        return False
