"""Find where a value of a translated request came from in the client's request.

The client's request is copied with values that know their path, and the copy is translated again. The translations pass
most values on as they are, so the path of a value, or of the values below it or around it, is the client's field.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

Path = tuple[str | int, ...]
_STEP = re.compile(r"[^.\[\]]+")
_MAX_STEPS = 32
_MAX_DIGITS = 9
_MAX_PLACES = 32
"""How many values of an object or a list are asked for their path."""
_MISSING = object()
_START = 64
"""The characters that show whether a text is JSON, which the translations parse: parsers take plain texts alone."""


class _Object(dict[str, Any]):
    __slots__ = ("origin",)
    origin: Path


class _List(list[Any]):
    __slots__ = ("origin",)
    origin: Path


class _Text(str):
    __slots__ = ("origin",)
    origin: Path


class _Whole(int):
    origin: Path


def with_origins(value: Any, path: Path = ()) -> Any:
    """Return a copy of a request whose values know their path, as deep as `steps_of` looks."""
    if len(path) >= _MAX_STEPS:
        return value
    made: Any
    match value:
        case dict():
            made = _Object((name, with_origins(each, (*path, name))) for name, each in value.items())
        case list():
            made = _List(with_origins(each, (*path, index)) for index, each in enumerate(value))
        case str() if not value[:_START].lstrip().startswith(("{", "[")):
            made = _Text(value)
        case bool():
            return value
        case int():
            made = _Whole(value)
        case _:  # orjson writes no subclass of float, and the translations write some values as text
            return value
    made.origin = path
    return made


def steps_of(path: str) -> list[str]:
    """Return the steps of a path as providers write it: `messages[3].tool_calls`, `messages.3.tool_calls`."""
    return _STEP.findall(path)[:_MAX_STEPS]


def origin_of(translated: Mapping[str, Any], steps: Sequence[str]) -> Path | None:
    """Return the client's path of the value at these steps, or of the nearest value around it; None if it is not known.

    Providers add steps that the request does not have, such as the type of a tool; these are skipped.
    """
    trail: list[Any] = []
    node: Any = translated
    for step in steps:
        inner = _inner(node, step)
        if inner is _MISSING:
            if not trail:
                return None
            continue
        node = inner
        trail.append(node)
    return next((origin for each in reversed(trail) if (origin := _origin(each))), None)


def _inner(node: Any, step: str) -> Any:
    if isinstance(node, Mapping):
        return node.get(step, _MISSING)
    # Python refuses to read an integer of thousands of digits.
    if isinstance(node, list) and len(step) <= _MAX_DIGITS and step.isdecimal() and int(step) < len(node):
        return node[int(step)]
    return _MISSING


def _origin(node: Any) -> Path | None:
    """Return the path of a value: its own, or what the paths of the values in it have in common."""
    own: Path | None = getattr(node, "origin", None)
    if own is not None:
        return own
    places = list(_places(node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()))
    if not places:
        return None
    common = _common(places)
    if len(common) > 1:
        return common
    # Several messages have the whole input in common, and a result has the id of another item before its content.
    return places[-1] if isinstance(node, Mapping) else places[0]


def _places(values: Iterable[Any]) -> Iterator[Path]:
    """Yield the path around each value that knows it, of the first ones."""
    for value in islice(values, _MAX_PLACES):
        own: Path | None = getattr(value, "origin", None)
        place = _origin(value) if own is None else own[:-1] or own
        if place:
            yield place


def _common(paths: Sequence[Path]) -> Path:
    length = 0
    for steps in zip(*paths, strict=False):
        if len(set(steps)) > 1:
            break
        length += 1
    return paths[0][:length]
