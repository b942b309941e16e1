"""Responses leave in one write; nothing is lost, reordered or kept back."""

import asyncio
from typing import cast

from apps.platform_api.server.write_coalescing import CoalescingWriter


class Recorded:
    """In the place of the socket's transport."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False
        self.ends = 0

    def write(self, data: bytes) -> None:
        assert not self.closing, "uvloop raises here"
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        self.ends += 1

    def is_closing(self) -> bool:
        return self.closing


def coalescing() -> tuple[CoalescingWriter, Recorded]:
    recorded = Recorded()
    return CoalescingWriter(cast(asyncio.Transport, recorded), asyncio.get_running_loop()), recorded


async def test_writes_of_one_iteration_leave_together() -> None:
    writer, recorded = coalescing()
    writer.write(b"head")
    writer.write(b" and ")
    writer.write(b"body")
    assert recorded.writes == []
    await asyncio.sleep(0)
    assert recorded.writes == [b"head and body"]
    writer.write(b"more")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recorded.writes == [b"head and body", b"more"]
    assert writer.written == len(b"head and bodymore")


async def test_large_writes_do_not_wait_for_the_iteration() -> None:
    writer, recorded = coalescing()
    for _ in range(100):
        writer.write(b"x" * 1000)
    assert [len(each) for each in recorded.writes] == [66_000]
    await asyncio.sleep(0)
    assert [len(each) for each in recorded.writes] == [66_000, 34_000]


async def test_closing_connection_is_not_written_to() -> None:
    writer, recorded = coalescing()
    writer.write(b"too late")
    recorded.closing = True
    await asyncio.sleep(0)
    assert recorded.writes == []
    assert writer.written == 0


async def test_nothing_is_written_behind_the_end() -> None:
    writer, recorded = coalescing()
    writer.write(b"last")
    writer.end()
    writer.write(b"more")
    writer.end()
    await asyncio.sleep(0)
    assert recorded.writes == [b"last"]
    assert recorded.ends == 1, "uvloop raises at writes behind it"
