"""Lines from pipes: complete, torn by a killed worker, too long."""

import os
from collections.abc import Iterator

import pytest

from apps.trace_exporter.pipes import PipeReader
from platform_app.observability.tracing.sender import MAX_LINE_BYTES


@pytest.fixture
def pipe() -> Iterator[tuple[PipeReader, int]]:
    reading, writing = os.pipe()
    yield PipeReader([reading]), writing
    os.close(reading)
    os.close(writing)


def _lines(reader: PipeReader) -> list[bytes]:
    return list(reader.read(0))


def test_line_in_two_writes_is_one_line(pipe: tuple[PipeReader, int]) -> None:
    reader, writing = pipe
    os.write(writing, b'{"a"')
    assert _lines(reader) == []
    os.write(writing, b": 1}\n{}\n")
    assert _lines(reader) == [b'{"a": 1}', b"{}"]


def test_line_of_killed_worker_ends_with_the_next_worker(pipe: tuple[PipeReader, int]) -> None:
    """The next worker begins with a line feed, so its first line is whole."""
    reader, writing = pipe
    os.write(writing, b'{"torn')
    os.write(writing, b'\n{"whole": 1}\n')
    assert _lines(reader) == [b'{"torn', b'{"whole": 1}']


def test_overlong_line_is_cut_and_next_line_is_read(pipe: tuple[PipeReader, int]) -> None:
    """The reader's memory is bounded, whatever a writer does."""
    reader, writing = pipe
    lines = []
    for _ in range(5):
        os.write(writing, b"x" * 60_000)
        lines += _lines(reader)
    os.write(writing, b"end\nnext\n")
    lines += _lines(reader)
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, len(b"next")]


def test_reader_without_data_yields_nothing(pipe: tuple[PipeReader, int]) -> None:
    assert _lines(pipe[0]) == []


def test_reader_ends_when_all_writers_have_ended() -> None:
    pipes = [os.pipe(), os.pipe()]
    reader = PipeReader([reading for reading, _ in pipes])
    os.write(pipes[0][1], b"last\n")
    os.close(pipes[0][1])
    assert _lines(reader) == [b"last"]
    assert _lines(reader) == []
    opened = [reader.open]
    os.close(pipes[1][1])
    assert _lines(reader) == []
    opened.append(reader.open)
    assert opened == [True, False]
    for reading, _ in pipes:
        os.close(reading)
