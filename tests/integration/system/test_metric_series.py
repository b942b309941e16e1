"""Text from clients makes no series; promtool accepts what the metrics port shows."""

import asyncio
import shutil
import subprocess

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.types import Message

from apps.platform_api.main import create_app
from platform_app.config import load_settings
from tests.support.gateway.http import chat_request, connect, until
from tests.support.gateway.process import Gateway

MANY = 10_000
FEW = 1000


def series_of_this_process() -> set[str]:
    return {f"{sample.name} {sample.labels}" for family in REGISTRY.collect() for sample in family.samples}


def series_of(gateway: Gateway) -> set[str]:
    return {line.rpartition(" ")[0] for line in gateway.metrics().splitlines() if not line.startswith("#")}


def promtool_complaints(text: str) -> str:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + done.stderr


async def test_clients_text_makes_no_series() -> None:
    """Ten thousand requests, each with its own method, path, query, model, host and user agent."""
    app = create_app(load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost"))

    async def request(number: int) -> int:
        statuses: list[int] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def receive() -> Message:
            return {"type": "http.request", "body": b'{"model": "m%d"}' % number, "more_body": False}

        path = f"/v1/models-{number}" if number % 2 else f"/openai/deployments/model-{number}/chat/completion"
        headers = [(b"host", b"h%d" % number), (b"user-agent", b"agent/%d" % number), (b"x-request-id", b"%d" % number)]
        scope = {
            "type": "http", "method": f"METHOD{number}", "path": path, "raw_path": path.encode(),
            "query_string": b"q=%d" % number, "headers": headers, "client": ("192.0.2.1", number), "state": {},
            "scheme": "http", "http_version": "1.1", "server": ("gateway", 80), "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)
        return statuses[0]

    assert {await request(number) for number in range(2)} <= {404, 405}
    before = series_of_this_process()
    for number in range(2, MANY):
        await request(number)
    assert series_of_this_process() == before


async def test_unknown_models_and_agents_make_no_series(gateway: Gateway, chat_key: str) -> None:
    async with connect(gateway) as connection:

        async def ask(first: int, last: int) -> None:
            for number in range(first, last):
                body = {"model": f"model-{number}", "messages": [{"role": "user", "content": "hi"}]}
                await connection.send(chat_request(chat_key, body, f"series-{number}"))
                assert (await connection.answer())[0] == 404
                agent = f"GET /path-{number} HTTP/1.1\r\nHost: h\r\nUser-Agent: agent-{number}\r\n\r\n"
                await connection.send(agent.encode())
                assert (await connection.answer())[0] == 404

        await ask(0, 1)
        await asyncio.sleep(0)
        before = series_of(gateway)
        await ask(1, FEW)
        # Background tasks may add a series meanwhile; none has a client's text.
        assert not [series for series in series_of(gateway) - before if any(str(n) in series for n in (1, 7, FEW - 1))]


async def test_promtool_accepts_the_metrics(gateway: Gateway, client: httpx.AsyncClient, chat_key: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    headers = {"Authorization": f"Bearer {chat_key}"}
    for stream in (False, True):
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
        assert (await client.post(gateway.chat_url, json=body, headers=headers)).status_code == 200
    await until(lambda: "platform_model_requests_total{" in gateway.metrics())
    assert await asyncio.to_thread(promtool_complaints, gateway.metrics()) == ""
