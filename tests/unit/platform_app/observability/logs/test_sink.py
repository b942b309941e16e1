"""The writer of log lines: a reader that hangs costs lines, never time."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from platform_app.observability.logs import sink as log_sink
from platform_app.observability.logs.sink import LogSink
from tests.support.fakes.core import Count


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:  # the test closed it
            continue


def read_all(reader: int, writer: int) -> bytes:
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        return stream.read()


def test_log_sink_writes_lines_completely_and_in_order(pipe: tuple[int, int]) -> None:
    sink = LogSink(pipe[1])
    for number in range(3000):
        sink.write(b"%d\n" % number)
    sink.close()
    assert read_all(*pipe).split() == [b"%d" % number for number in range(3000)]


def test_log_sink_writes_a_line_without_a_flush(pipe: tuple[int, int]) -> None:
    sink = LogSink(pipe[1])
    sink.write(b"hello\n")
    assert os.read(pipe[0], 100) == b"hello\n"
    sink.close()


def test_log_sink_close_writes_queued_lines(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sink, "FLUSH_SECONDS", 60)
    sink = LogSink(pipe[1])
    for number in range(100):
        sink.write(b"%d\n" % number)
    sink.close()
    assert len(read_all(*pipe).split()) == 100


def test_log_sink_keeps_the_order_of_each_thread(pipe: tuple[int, int]) -> None:
    sink = LogSink(pipe[1])

    def write(name: int) -> None:
        for number in range(500):
            sink.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    found: dict[bytes, list[int]] = {}
    for line in read_all(*pipe).splitlines():
        name, number = line.split()
        found.setdefault(name, []).append(int(number))
    assert found == {b"%d" % name: list(range(500)) for name in range(4)}


def test_log_sink_blocked_reader_drops_and_counts_lines(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sink, "MAX_QUEUED_LINES", 500)
    monkeypatch.setattr(log_sink, "CLOSE_TIMEOUT_SECONDS", 0.1)
    dropped = Count("platform_log_lines_dropped_total")
    sink = LogSink(pipe[1])
    line = b"x" * 999 + b"\n"
    for _ in range(5000):  # a write that waited for the reader would never return: it reads only further below
        sink.write(line)
    # A pipe takes 64 KiB, a batch of the writer 500 lines, the queue 500: the rest is lost.
    lost = dropped.grown
    assert 3900 <= lost < 5000
    sink.close()
    # Once the reader reads, what was not dropped arrives whole.
    got = b""
    while got.count(b"\n") < 5000 - lost:
        got += os.read(pipe[0], 65536)
    assert got == line * int(5000 - lost)


def test_log_sink_closed_reader_drops_and_counts_lines(pipe: tuple[int, int]) -> None:
    dropped = Count("platform_log_lines_dropped_total")
    os.close(pipe[0])
    sink = LogSink(pipe[1])
    for _ in range(10):
        sink.write(b"x\n")
    sink.close()
    assert dropped.grown == 10


def test_log_sink_non_blocking_pipe_loses_nothing(pipe: tuple[int, int]) -> None:
    """The flag belongs to the pipe, and another process that shares stdout may have set it."""
    os.set_blocking(pipe[1], False)
    dropped = Count("platform_log_lines_dropped_total")
    sink = LogSink(pipe[1])
    line = b"x" * 999 + b"\n"
    for _ in range(500):
        sink.write(line)
    time.sleep(0.1)  # the pipe is full by now
    got = b""
    while len(got) < 500 * len(line):
        got += os.read(pipe[0], 65536)
        if dropped.grown:
            break
    sink.close()
    assert dropped.grown == 0
    assert got == line * 500


def test_log_sink_writes_a_first_line_while_python_ends() -> None:
    """A destructor logs when no thread can start any more: asyncio's report of a task that was left, for example."""
    script = (
        "from platform_app.observability.logs.sink import LogSink\n"
        "class Left:\n"
        "    sink = LogSink()\n"
        "    def __del__(self):\n"
        "        self.sink.write(b'left\\n')\n"
        "left = Left()\n"
        "left.itself = left\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, b"left\n"), done.stderr
