"""Tables, progress and colours on terminals and in pipes; actors."""

import io
import socket

import pytest
import typer

from apps.platform_cli.terminal.actor import cli_actor
from apps.platform_cli.terminal.colour import coloured
from apps.platform_cli.terminal.progress import EACH_SECONDS, FIRST_SECONDS, Progress
from apps.platform_cli.terminal.table import table_lines
from tests.support.fakes.core import FakeClock

HEADER = ("ID", "NAME")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_as_wide_as_their_cells() -> None:
    lines = table_lines(HEADER, [("a", "x" * 300), ("bcd", "y")])
    assert lines == ["ID   NAME", f"a    {'x' * 300}", "bcd  y"]


def test_wide_characters_take_two_columns() -> None:
    assert table_lines(("N", "X"), [("日本", "1"), ("e\u0301", "2")]) == ["N     X", "日本  1", "e\u0301     2"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert table_lines(HEADER, [("a\x1b[31m", "b\nc")])[1] == "a\ufffd[31m  b\ufffdc"


def test_narrow_terminal_gets_blocks() -> None:
    rows = [("a", "long name"), ("b", "")]
    assert table_lines(HEADER, rows, 80) == table_lines(HEADER, rows)
    assert table_lines(HEADER, rows, 8) == ["ID    a", "NAME  long name", "", "ID    b", "NAME"]
    assert table_lines(HEADER, [], 2) == ["ID  NAME"]


def test_thousand_rows_are_written() -> None:
    assert len(table_lines(HEADER, [(str(number), "n") for number in range(1000)])) == 1001


def progress(stream: io.StringIO, output: io.StringIO) -> tuple[Progress, FakeClock]:
    clock = FakeClock()
    return Progress("entries", stream, output, clock), clock


def test_long_export_shows_its_progress() -> None:
    stream = Terminal()
    counted, clock = progress(stream, io.StringIO())
    with counted:
        counted.add(500)
        assert stream.getvalue() == "", "a short export shows nothing"
        clock.advance(FIRST_SECONDS)
        counted.add(500, "2026-11-26")
        assert stream.getvalue() == "\r1,000 entries, back to 2026-11-26\x1b[K"
        counted.add(500)
        clock.advance(EACH_SECONDS)
        counted.add(500)
    assert stream.getvalue().endswith("\r2,000 entries\x1b[K\r2,000 entries, done\x1b[K\n")


@pytest.mark.parametrize(("stream", "output"), [(io.StringIO(), io.StringIO()), (Terminal(), Terminal())])
def test_export_to_a_terminal_or_log_shows_no_progress(stream: io.StringIO, output: io.StringIO) -> None:
    counted, clock = progress(stream, output)
    with counted:
        clock.advance(10 * FIRST_SECONDS)
        counted.add(1)
    assert stream.getvalue() == ""


def test_short_export_shows_nothing() -> None:
    stream = Terminal()
    counted, _ = progress(stream, io.StringIO())
    with counted:
        counted.add(1)
    assert stream.getvalue() == ""


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured("FAIL", "red", Terminal()) == "\x1b[31mFAIL\x1b[0m"
    assert coloured("FAIL", "red", io.StringIO()) == "FAIL"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("FAIL", "red", Terminal()) == "FAIL"


def test_actor_has_user_and_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "root")
    monkeypatch.setattr(socket, "gethostname", lambda: "gateway-7d9f")
    assert cli_actor(None, {}).name == "cli:root@gateway-7d9f"
    assert cli_actor(" ", {}).name == "cli:root@gateway-7d9f"
    assert cli_actor(None, {"SUDO_USER": "alice"}).name == "cli:alice as root@gateway-7d9f"
    assert cli_actor("Alice", {"SUDO_USER": "bob"}).name == "cli:Alice as root@gateway-7d9f"
    for name in ("x" * 101, "a\nb", "a\x1bb"):
        with pytest.raises(typer.BadParameter, match="printable"):
            cli_actor(name, {})
