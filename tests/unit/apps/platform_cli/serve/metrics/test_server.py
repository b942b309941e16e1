"""The metrics port over real sockets: what it serves, and that no client can hold it."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from structlog.testing import capture_logs

from apps.platform_cli.serve.metrics import server as metrics_server
from apps.platform_cli.serve.metrics.server import MAX_CONNECTIONS, MAX_HEAD_BYTES, MetricsCache, MetricsServer

SECONDS = 30.0


class CountingRegistry(CollectorRegistry):
    collections = 0

    def collect(self):  # type: ignore[no-untyped-def]  # prometheus_client's is generic
        self.collections += 1
        return super().collect()


class World:
    def __init__(self, port: int, registry: CountingRegistry, server: MetricsServer, cache: MetricsCache) -> None:
        self.port = port
        self.cache = cache
        self.server = server
        self.registry = registry

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def exchange(self, sent: bytes) -> bytes:
        with closing(self.connect()) as client:
            client.sendall(sent)
            return read_all(client)

    def scrape(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=SECONDS)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    return received


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def world() -> Iterator[World]:
    registry = CountingRegistry()
    Counter("tests_things", "Things.", registry=registry).inc(3)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        listening.setblocking(False)
        cache = MetricsCache(registry)
        with MetricsServer(listening, cache) as server:
            yield World(listening.getsockname()[1], registry, server, cache)


def test_metrics_are_served_to_get_and_head(world: World) -> None:
    response = world.scrape()
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "tests_things_total 3.0" in response.text
    head = httpx.head(f"http://127.0.0.1:{world.port}/metrics?x=1")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == response.headers["content-length"]


def test_openmetrics_is_served_on_request(world: World) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    response = httpx.get(f"http://127.0.0.1:{world.port}/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nxx", b"405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nA: b\nC: d\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nA: b\rC: d\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nA: \0\r\n\r\n", b"400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 3 * MAX_HEAD_BYTES, b"431 Request Header Fields Too Large"),
    ],
)
def test_other_requests_are_refused(world: World, sent: bytes, status: bytes) -> None:
    assert world.exchange(sent).startswith(b"HTTP/1.1 " + status)
    assert world.registry.collections == 0


def test_scrape_succeeds_beside_500_idle_connections(world: World) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(world.connect())) for _ in range(500)]
        for client in idle[::2]:
            client.send(b"GET /metrics HTTP/1.1\r\nHost: ")
        for _ in range(3):
            assert world.scrape().status_code == 200
        assert world.server.connections <= MAX_CONNECTIONS
        for client in idle[: -2 * MAX_CONNECTIONS]:
            assert is_closed(client)


def test_metrics_server_closes_idle_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.2)
    with closing(world.connect()) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert is_closed(client)


def test_slow_reader_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "RESPONSE_SECONDS", 0.3)
    big = Counter("tests_big", "Much.", ["name"], registry=world.registry)
    for number in range(20_000):
        big.labels("x" * 200 + str(number)).inc()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", world.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + SECONDS
        assert client.recv(1) == b"H"
        while world.server.connections:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert world.scrape().status_code == 200


def test_text_is_kept_for_a_second() -> None:
    now = [0.0]
    registry = CountingRegistry()
    cache = MetricsCache(registry, 1.0, clock=lambda: now[0])
    for moment, collections in ((0.0, 1), (0.5, 1), (0.9, 1), (1.0, 2)):
        now[0] = moment
        cache.text("")
        assert registry.collections == collections


PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN), ("*/*", PLAIN), ("text/plain; version=1.x", PLAIN), ("text/plain; version=2.1", PLAIN),
        ("application/openmetrics-text; version=1.x", PLAIN), ("application/openmetrics-text; version=9.9", PLAIN),
        ("application/openmetrics-text; version=0.0.1,text/plain", PLAIN), ("a, b;;=, text/plain;version", PLAIN),
        ("application/openmetrics-text", OPENMETRICS), ("application/openmetrics-text; q=0.5", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; x=\"y\"", OPENMETRICS),
    ],
)  # fmt: skip
def test_accept_chooses_one_of_two_forms(world: World, accept: str, content_type: str) -> None:
    response = world.exchange(f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 200 ")
    assert f"\r\nContent-Type: {content_type}".encode() in response
    assert len(response.partition(b"\r\n\r\n")[0].split(b"\r\n")) == 4


def test_versions_in_accept_share_one_cached_text(world: World) -> None:
    for number in range(20):
        world.exchange(f"GET /metrics HTTP/1.1\r\nAccept: text/plain; version=2.{number}\r\n\r\n".encode())
    assert len(world.cache._texts) == 1


def test_scrape_that_fails_gets_500(world: World) -> None:
    class Broken:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> list[Metric]:
            raise RuntimeError("secret-value")

    world.registry.register(Broken())
    with capture_logs() as lines:
        response = world.exchange(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 500 ")
    assert [line["event"] for line in lines] == ["metrics_not_served"]
    assert "secret-value" not in f"{lines}{response!r}"
