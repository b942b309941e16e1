"""Log lines: one JSON object each, with their request, without secrets."""

import json
import logging
import time
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_app.errors import SecretError
from platform_app.observability.context import current_request
from platform_app.observability.logging import configure_logging, get_logger, write_access_line
from tests.support.fakes.log_lines import Lines

KEY = "fbp_live_0123456789AB_" + "s3cr3tS3CR3T" * 3 + "abc"


def test_log_line_is_one_json_object_with_a_line_feed(lines: Lines) -> None:
    get_logger("auth").info("key_revoked", key_id="k1", count=2, note="two\nlines", parts={1: (2.5, None)})
    [raw] = lines.raw
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1
    line = lines.last
    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert line == {
        "event": "key_revoked",
        "level": "info",
        "component": "auth",
        "key_id": "k1",
        "count": 2,
        "note": "two\nlines",
        "parts": {"1": [2.5, None]},
    }


def test_log_line_in_a_request_has_its_ids(lines: Lines, request_id: str) -> None:
    get_logger("auth").info("x")
    assert lines.last["request_id"] == request_id
    assert len(lines.last["trace_id"]) == 32


def test_log_line_outside_a_request_has_no_request_id(lines: Lines) -> None:
    get_logger("auth").info("x")
    assert "request_id" not in lines.last


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Bearer {KEY}", "Bearer fbp_live_0123456789AB[masked]"),
        (f"{KEY},{KEY}", "fbp_live_0123456789AB[masked],fbp_live_0123456789AB[masked]"),
        ("key sk-proj-abc_DEF-123 end", "key sk-[masked] end"),
        ("sk-short", "sk-short"),
        ("fbp_live_0123456789AB", "fbp_live_0123456789AB"),  # the public part alone
    ],
)
def test_log_masks_keys_in_every_field(lines: Lines, text: str, shown: str) -> None:
    log = get_logger("x")
    log.info("event", field=text)
    assert lines.last["field"] == shown
    log.info(text)
    assert lines.last["event"] == shown
    log.info("event", nested={"deep": [text]})
    assert lines.last["nested"] == {"deep": [shown]}
    logging.getLogger("library").warning("it said %s", text)
    assert lines.last["event"] == f"it said {shown}"
    try:
        raise SecretError(text)
    except SecretError:
        log.exception("failed")
    assert lines.last["error_message"] == shown


def test_logged_exception_contains_no_variable_values(lines: Lines) -> None:
    password = "hunter2-in-a-variable"

    def inner(argument: str) -> None:
        raise KeyError(argument)

    try:
        inner(password)
    except KeyError:
        get_logger("x").exception("failed")
    line = lines.last
    assert (line["level"], line["error"]) == ("error", "KeyError")
    assert "error_message" not in line, "what was looked up may be anything"
    assert [place.rpartition(" ")[2] for place in line["error_at"]] == [
        "test_logged_exception_contains_no_variable_values",
        "inner",
    ]
    assert all(".py:" in place for place in line["error_at"])
    raw = lines.raw[-1]
    assert password.encode() not in raw
    assert b"raise KeyError" not in raw  # nor source lines
    assert "exc_info" not in line


def test_traceback_of_blank_lines_is_read_in_linear_time(lines: Lines) -> None:
    def seconds(length: int) -> float:
        began = time.thread_time()
        logging.getLogger("uvicorn.error").error("Traceback (most recent call last):\n%s", "\n" * length)
        return time.thread_time() - began

    short, long = seconds(300), seconds(150_000)
    assert lines.last["event"] == "unhandled_exception"
    assert long <= 1000 * short + 0.5


def test_logged_exception_has_bounded_text_and_depth(lines: Lines) -> None:
    def deep(levels: int) -> None:
        if levels == 0:
            raise SecretError("x" * 5000)
        deep(levels - 1)

    try:
        deep(100)
    except SecretError as error:
        get_logger("x").error("failed", exc_info=error)
    assert len(lines.last["error_message"]) == 300
    assert len(lines.last["error_at"]) == 20


def test_log_level_applies_to_own_and_library_loggers(lines: Lines) -> None:
    configure_logging("warning", "json", lines)
    log = get_logger("x")
    log.info("quiet")
    log.warning("loud")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").error("loud")
    assert [json.loads(raw)["event"] for raw in lines.raw] == ["loud", "loud"]


def test_log_levels_libraries_warning_uvicorn_configured(lines: Lines) -> None:
    logging.getLogger("sqlalchemy.engine").info("SELECT 1")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("asyncio").warning("slow")
    assert [json.loads(raw)["component"] for raw in lines.raw] == ["uvicorn.error", "asyncio"]


def test_log_line_of_a_library_keeps_level_and_exception(lines: Lines) -> None:
    try:
        raise OSError(5, "no disk")
    except OSError:
        logging.getLogger("lib.part").exception("could not %s", "write")
    line = lines.last
    assert (line["component"], line["level"], line["event"], line["error"]) == (
        "lib.part", "error", "could not write", "OSError",
    )  # fmt: skip


@pytest.mark.parametrize("level", [logging.WARNING + 5, 55])
def test_log_level_of_a_library_may_be_custom(lines: Lines, level: int) -> None:
    logging.getLogger("lib").log(level, "notice")
    assert lines.last["event"] == "notice"


def test_log_call_with_wrong_format_arguments_is_logged(lines: Lines) -> None:
    # Straight to our handler: pytest's own, beside it, does fail.
    [ours] = [handler for handler in logging.getLogger().handlers if type(handler).__name__ == "StructlogHandler"]
    ours.handle(logging.LogRecord("lib", logging.WARNING, "x.py", 1, "%d items", ("many",), None))
    assert lines.last["event"] == "%d items"
    logging.getLogger("lib").warning("100%")
    assert lines.last["event"] == "100%"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", ["\ud800", 2**70, -(2**70), object(), b"\xff", {"a": {"\udfff": 1}}, {1, 2}, "\x00"])
def test_log_call_with_odd_value_is_logged(lines: Lines, form: Any, value: object) -> None:
    configure_logging("info", form, lines)
    get_logger("x").info("odd", value=value)
    assert b"odd" in lines.raw[-1]
    assert lines.raw[-1].count(b"\n") == 1
    lines.raw[-1].decode()  # the sink's reader gets UTF-8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_log_line_with_any_text_is_valid_json(lines: Lines, event: str, value: str) -> None:
    get_logger("x").info(event, value=value)
    assert lines.raw[-1].count(b"\n") == 1
    json.loads(lines.raw[-1])


HOSTILE = [
    "\r\n12:00:00 error    auth     forged",
    "\x1b[2J\x1b]0;owned\x07", "\x00", "\x7f", "\x85", "\x9b31m", "\u2028", "\u2029",
    "\u202e", "\u2066", "\u200b", "\u200f", "\u061c", "\ufeff",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("form", ["json", "console"])
def test_log_escapes_control_characters(form: Literal["json", "console"], text: str) -> None:
    """In every field, in an exception's message, and in the messages and warnings of libraries."""
    sink = Lines()
    configure_logging("debug", form, sink)
    write_access_line(
        {"method": f"GET{text}", "route": text, "status": 200, "duration_ms": 1.0, "model": text, "hops": {text: 1}},
        None,
    )
    get_logger(f"access{text}").info(f"request{text}", request_id=f"a{text}b", path=[text], **{f"key{text}": text})
    try:
        raise SecretError(f"cannot be read{text}")
    except SecretError:
        get_logger("secrets").exception("failed")
    logging.getLogger("uvicorn.error").warning("odd %s", text)
    get_logger("serve").error("worker_hung", stack=[text, text])
    assert len(sink.raw) == 5
    for raw in sink.raw:
        *first, end = raw.decode().split("\n")
        assert end == ""
        assert all(line.isprintable() for line in first), raw
        # Only the locations of an exception take further lines, and these are indented.
        assert all(line.startswith("    ") for line in first[1:])
        assert form == "console" or len(first) == 1
    if form == "json":
        found = [json.loads(raw) for raw in sink.raw]
        assert (found[1]["request_id"], found[1]["path"]) == (f"a{text}b", [text])
        assert found[2]["error_message"] == f"cannot be read{text}"


def test_log_does_not_escape_printable_text() -> None:
    sink = Lines()
    configure_logging("debug", "console", sink)
    get_logger("access").info("Grüße, 日本語 🙂")
    assert "Grüße, 日本語 🙂" in sink.raw[0].decode()


@pytest.mark.parametrize("name", ["key_id", "span_id", "trace_id"])
def test_log_line_in_a_request_names_its_span_and_key(lines: Lines, request_id: str, name: str) -> None:
    current = current_request()
    assert current is not None
    current.key_id = "0123456789AB"
    get_logger("auth").info("x")
    assert lines.last[name]


@pytest.mark.parametrize("level", ["warning", "error"])
def test_access_lines_are_left_out_above_level_info(level: Literal["warning", "error"]) -> None:
    sink = Lines()
    configure_logging(level, "json", sink)
    write_access_line({"status": 200}, None)
    assert sink.raw == []


def test_access_line_has_the_ids_of_its_request(lines: Lines, request_id: str) -> None:
    request = current_request()
    assert request is not None
    write_access_line({"status": 200, "upstream_request_id": "sk-" + "a1" * 12}, request)
    line = lines.last
    assert (line["request_id"], line["trace_id"]) == (request_id, request.trace.trace_id)
    assert (line["component"], line["event"], line["level"]) == ("access", "request", "info")
    assert line["upstream_request_id"] == "sk-[masked]"
