"""Compare a documented response with the real one: the same shape, and the same values where the page promises them."""

import json
import re
from collections.abc import Iterator
from typing import Any

COMPARED_BY_VALUE = {"status", "code", "finish_reason", "role", "conversation_id", "name", "ok", "required", "service"}


def same_shape(documented: Any, actual: Any, path: str = "") -> None:
    """Require the same fields and types, and the same values of the fields in `COMPARED_BY_VALUE`."""
    if isinstance(documented, dict):
        assert isinstance(actual, dict), path
        assert actual.keys() == documented.keys(), path
        for name, value in documented.items():
            same_shape(value, actual[name], f"{path}.{name}")
            if name in COMPARED_BY_VALUE and not isinstance(value, dict | list):
                assert actual[name] == value, f"{path}.{name}"
    elif isinstance(documented, list):
        assert isinstance(actual, list), path
        assert len(actual) == len(documented), path
        for index, value in enumerate(documented):
            same_shape(value, actual[index], f"{path}[{index}]")
    else:
        assert type(actual) is type(documented), f"{path}: {actual!r}"


def same_response(documented: str, actual: str) -> None:
    """Require the same status line, headers (apart from numbers and ids) and body."""
    head, _, body = documented.partition("\n\n")
    actual_head, _, actual_body = actual.replace("\r\n", "\n").partition("\n\n")
    status, *headers = head.splitlines()
    actual_status, *actual_headers = actual_head.splitlines()
    assert actual_status == status
    assert [line for line in map(_without_numbers, headers) if line not in map(_without_numbers, actual_headers)] == []
    same_shape(json.loads(body), json.loads(actual_body))


def same_events(documented: str, actual: str) -> None:
    """Require the same kinds of events in the same order, and the same fields in the first and the last event."""
    expected, got = list(_events(documented)), list(_events(actual))
    assert list(dict.fromkeys(name for name, _ in got)) == list(dict.fromkeys(name for name, _ in expected))
    same_shape(expected[0][1], got[0][1])
    same_shape(expected[-1][1], got[-1][1])


def _without_numbers(header: str) -> str:
    """Replace ids, durations and numbers by letters."""
    header = re.sub(r"\b[0-9a-f]{16,}\b", "H", header.strip())
    header = re.sub(r"(?<=: )(\d+h)?(\d+m)?[\d.]+m?s$", "D", header)
    return re.sub(r"\d+(\.\d+)?", "N", header)


def _events(text: str) -> Iterator[tuple[str, Any]]:
    """Yield name and data of each event. OpenAI's events have no name, and `[DONE]` is not JSON."""
    for name, data in re.findall(r"^(?:event: ([\w.]+)\n)?data: (.*)\n\n", text, re.M):
        yield name, data if data == "[DONE]" else json.loads(data)
