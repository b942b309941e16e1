"""Implausible usage as real providers send it: correct responses whose counts are zero, not numbers, or too large."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

ABSENT = object()
"""The response has no usage."""
SHAPES: tuple[object, ...] = (
    (0, 0),
    (500.0, 400.0),
    (10**19, 10**19),
    (2**63, 2**63),
    (-5, -7),
    ("many", "few"),
    (None, None),
    (True, True),
    (0.5, 0.5),
    (100_000_000, 100_000_000),
    [1, 2],
    "12",
    {},
    ABSENT,
    (25, ABSENT),
    (ABSENT, 25),
    (25, 0),
    (0, 25),
)
"""By the fault's number: the counts of input and output that replace the right ones, or the value that replaces
usage."""
_INPUT, _OUTPUT, _TOTAL = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"), "total_tokens"


def with_odd_usage(body: bytes, number: float) -> bytes:
    """Return a JSON response with that usage."""
    return orjson.dumps(_changed(orjson.loads(body), SHAPES[int(number) % len(SHAPES)]))


def events_with_odd_usage(events: list[bytes], number: float) -> Iterator[bytes]:
    """Return the events of a stream with that usage. The first event of Anthropic keeps its right counts, which the
    last ones must not overwrite."""
    for event in events:
        head, separator, data = event.partition(b"data: ")
        if separator and b'"usage":{' in data and b'"message_start"' not in data:
            event = head + separator + with_odd_usage(data, number) + b"\n\n"
        yield event


def _changed(body: dict[str, Any], shape: object) -> dict[str, Any]:
    inner = body.get("response")
    if isinstance(inner, dict):  # an event of the Responses format
        return {**body, "response": _changed(inner, shape)}
    changed = {name: value for name, value in body.items() if name != "usage"}
    usage = body.get("usage")
    if shape is ABSENT:
        return changed
    if not isinstance(shape, tuple) or not isinstance(usage, dict):
        return {**changed, "usage": shape}
    return {**changed, "usage": dict(_counts(usage, *shape))}


def _counts(usage: Mapping[str, Any], given: object, made: object) -> Iterator[tuple[str, object]]:
    for name, value in usage.items():
        if name in _INPUT or name in _OUTPUT:
            count = given if name in _INPUT else made
            if count is not ABSENT:
                yield name, count
        elif name == _TOTAL:
            yield name, given if given == made else None
        elif not isinstance(value, int):
            yield name, value
