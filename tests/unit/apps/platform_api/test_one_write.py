"""Answers leave in one write; nothing is lost, reordered or kept back."""

import asyncio
from typing import Any, cast

from apps.platform_api.one_write import JoiningTransport


class Recorded:
    """In the place of the socket's transport."""

    def __init__(self) -> None:
        self.did: list[bytes | str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing, "uvloop raises here"
        self.did.append(bytes(data))

    def close(self) -> None:
        self.closing = True
        self.did.append("close")

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1)}.get(name, default)


def joining() -> tuple[JoiningTransport, Recorded]:
    recorded = Recorded()
    return JoiningTransport(cast(asyncio.Transport, recorded), asyncio.get_running_loop()), recorded


async def test_what_is_written_in_one_turn_is_one_write() -> None:
    transport, recorded = joining()
    transport.write(b"head")
    transport.write(bytearray(b" and "))
    transport.write(memoryview(b"body"))
    assert recorded.did == []
    await asyncio.sleep(0)
    assert recorded.did == [b"head and body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recorded.did == [b"head and body", b"more"]


async def test_much_is_not_kept_for_the_end_of_the_turn() -> None:
    transport, recorded = joining()
    for _ in range(100):
        transport.write(b"x" * 1000)
    assert [len(each) for each in recorded.did] == [66_000]
    await asyncio.sleep(0)
    assert [len(each) for each in recorded.did] == [66_000, 34_000]


async def test_closing_sends_what_was_written_before() -> None:
    transport, recorded = joining()
    transport.write(b"last words")
    transport.close()
    assert recorded.did == [b"last words", "close"]
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert recorded.did == [b"last words", "close"]


async def test_to_a_client_that_left_nothing_is_written() -> None:
    transport, recorded = joining()
    transport.write(b"for nobody")
    recorded.closing = True
    await asyncio.sleep(0)
    assert recorded.did == []


async def test_the_rest_is_the_transports() -> None:
    transport, recorded = joining()
    transport.pause_reading()
    transport.resume_reading()
    assert recorded.did == ["pause", "resume"]
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)
    assert transport.get_extra_info("sslcontext") is None
