"""Log lines for a person: columns, few fields, colours only on a terminal."""

import re

import pytest

from platform_app.observability.logging import configure_logging, get_logger, write_access_line
from tests.support.fakes.log_lines import Lines

KEY = "fbp_live_0123456789AB_" + "s3cr3tS3CR3T" * 3 + "abc"
ACCESS = {
    "method": "POST", "route": "/v1/platform/chat", "status": 200, "duration_ms": 12.345, "decision": "allow",
    "reason": None, "model": "sim-ok", "provider": "simulator", "client_address": "127.0.0.1",
}  # fmt: skip


def console(*, terminal: bool = False) -> Lines:
    sink = Lines(terminal=terminal)
    configure_logging("debug", "console", sink)
    return sink


def text_of(sink: Lines) -> str:
    return sink.raw[-1].decode()


def test_console_line_has_time_level_event_and_fields(request_id: str) -> None:
    sink = console()
    get_logger("auth").warning("key_revoked", name="k1", reason=None, why="two words", key=KEY)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} warning key_revoked {23} name=k1 why=\"two words\" "
        rf"key=fbp_live_0123456789AB\[masked\]  #{request_id}\n",
        text_of(sink),
    )


def test_console_line_shortens_ids_of_info_lines(request_id: str) -> None:
    sink = console()
    get_logger("auth").info("key_used")
    assert text_of(sink).endswith(f"key_used  #{request_id[:8]}\n")


def test_console_access_line_shows_a_success_in_columns() -> None:
    sink = console()
    hops = {"auth": 0.123, "parse": 0.02, "limits": 0.4}
    write_access_line({**ACCESS, "overhead_ms": 0.8123, "attempts": 1, "hops": hops}, None)
    assert text_of(sink)[13:] == (
        "info    200 POST /v1/platform/chat              12.3 ms  "
        "model=sim-ok provider=simulator gateway=0.8ms hops=auth:0.1,limits:0.4\n"
    )


def test_console_access_line_of_a_failure_names_the_client() -> None:
    sink = console()
    write_access_line(ACCESS | {"status": 401, "reason": "invalid_api_key", "model": None}, None)
    assert "info    401 POST" in text_of(sink)
    assert "reason=invalid_api_key" in text_of(sink)
    assert "client_address=127.0.0.1" in text_of(sink)


def test_console_shows_no_probe_that_succeeds() -> None:
    sink = console()
    write_access_line({"method": "GET", "route": "/readyz", "status": 200, "duration_ms": 0.1}, None)
    assert text_of(sink) == ""
    write_access_line({"method": "GET", "route": "/readyz", "status": 503, "duration_ms": 0.1}, None)
    assert "503 GET /readyz" in text_of(sink)


def test_console_shortens_a_long_list() -> None:
    sink = console()
    get_logger("ledger").info("ledger_maintained", created=list("abcdefgh"), dropped=[])
    assert text_of(sink).endswith("created=a; b; c; d; e; … 3 more\n")


def test_console_traceback_takes_indented_lines() -> None:
    sink = console()
    try:
        raise RuntimeError("secret text")
    except RuntimeError:
        get_logger("access").exception("unhandled_error")
    first, second, end = text_of(sink).split("\n")
    assert first.endswith("error=RuntimeError")
    assert re.fullmatch(r"    \S+test_console_line\.py:\d+ test_console_traceback_takes_indented_lines", second)
    assert end == ""


def test_console_colours_the_level_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    sink = console(terminal=True)
    get_logger("auth").error("failed")
    assert "\x1b[31merror  \x1b[0m" in text_of(sink)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_console_has_no_colour_if_unwanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    sink = console(terminal=True)
    get_logger("auth").error("failed")
    assert "\x1b" not in text_of(sink)


def test_console_has_no_colour_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    sink = console()
    get_logger("auth").error("failed")
    assert "\x1b" not in text_of(sink)


def test_console_escapes_a_colour_in_a_field_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    sink = console(terminal=True)
    get_logger("auth").error("failed\x1b[2J", **{"field\x1b[2J": "\x1b[2J"})
    assert "\x1b[2J" not in text_of(sink)
    assert text_of(sink).count("\\x1b[2J") == 3
