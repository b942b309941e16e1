"""Exchanges in which client and gateway take turns: `Expect: 100-continue`, early refusals, half-closed connections."""

import asyncio

import pytest

from tests.attacks.corpus.build import CHAT_LINE, CHUNKED, JSON, KEY, chat, get, head, prompt, request_id, sized
from tests.attacks.corpus.case import Case, Run, echo_of, fill
from tests.attacks.raw_http import Address, RawConnection

pytestmark = pytest.mark.usefixtures("healthy_gateway")

EXPECT = "Expect: 100-continue"


def filled(data: bytes, key: str) -> Run:
    return fill(Case("turns", data), key)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_expectation_gets_100_once_and_own_response(address: Address, chat_key: str, framing: str) -> None:
    """The client sends its body only after the 100."""
    said = prompt()
    headers = sized(said) if framing == "length" else CHUNKED
    run = filled(chat(said, EXPECT, headers), chat_key)
    start, body = run.data.split(b"\r\n\r\n", 1)
    chunks = [body] if framing == "length" else [b"%x\r\n%b\r\n" % (len(body), body), b"0\r\n\r\n"]

    def take_turns() -> None:
        with RawConnection(address) as connection:
            connection.send(start + b"\r\n\r\n")
            while b"\r\n\r\n" not in connection.reader.received:
                connection.receive()
            assert connection.reader.received == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.send_split(chunks)
            response = connection.response()
            assert (response.status, response.interim) == (200, (100,))
            assert echo_of(run.request_id("1")) in response.body

    await asyncio.to_thread(take_turns)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (CHAT_LINE, (JSON,), 401),
        (CHAT_LINE, (KEY, "Content-Type: text/plain"), 415),
        ("POST /nowhere HTTP/1.1", (), 404),
    ],
)
async def test_unwanted_body_is_refused_without_100(
    address: Address, chat_key: str, line: str, headers: tuple[str, ...], status: int
) -> None:
    """A client that waits for a 100 learns at once that its body is not wanted, and the connection ends: the gateway
    cannot know whether the body still comes."""
    run = filled(head(line, request_id(), *headers, EXPECT, "Content-Length: 100000"), chat_key)

    def ask() -> None:
        with RawConnection(address) as connection:
            connection.send(run.data)
            received = connection.until_closed()
        assert [(each.status, each.interim) for each in received.responses] == [(status, ())]
        assert received.responses[0].request_id == run.request_id("1")
        assert received.closed

    await asyncio.to_thread(ask)


async def test_body_after_early_refusal_is_not_a_request(address: Address, chat_key: str) -> None:
    """What arrives after a 401 is read off, up to a bound, and never taken for the next request."""
    run = filled(head(CHAT_LINE, request_id(), JSON, "Content-Length: 5000000"), chat_key)
    hidden = get(name="inner").replace(b"atk-000000000000", run.token.encode())

    def ask() -> None:
        with RawConnection(address) as connection:
            connection.send(run.data)
            assert connection.response().status == 401
            for _ in range(200):
                if not connection.send(hidden * 100):
                    break
            received = connection.until_closed()
        assert [each.status for each in received.responses] == [401]
        assert received.closed

    await asyncio.to_thread(ask)


async def test_half_closed_connection_ends_without_another_response(address: Address, chat_key: str) -> None:
    """A client that ends its side is taken for gone: it gets its own response, or the connection's end."""
    said = prompt()
    run = filled(chat(said, sized(said)), chat_key)

    def ask() -> None:
        with RawConnection(address) as connection:
            connection.send(run.data)
            connection.half_close()
            received = connection.until_closed()
        assert received.closed
        assert [each.request_id for each in received.responses] in ([], [run.request_id("1")])

    await asyncio.to_thread(ask)


@pytest.mark.parametrize("target", ["/livez", "gateway:443", "*"])
async def test_bytes_of_a_tunnel_are_not_a_request(address: Address, chat_key: str, target: str) -> None:
    """The gateway has no CONNECT, whatever its target is, and reads nothing of what follows it. (A proxy that knows no
    CONNECT may read the bytes as a separate request.)"""
    run = filled(head(f"CONNECT {target} HTTP/1.1", request_id()) + get(name="inner"), chat_key)

    def ask() -> None:
        with RawConnection(address) as connection:
            connection.send(run.data)
            received = connection.until_closed()
        assert [each.status for each in received.responses] == [405]
        assert received.closed

    await asyncio.to_thread(ask)
