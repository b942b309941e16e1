"""Where in a JSON value something is that cannot be passed on. Costs as much as the value is large, whatever its names
are: a path is written out only for what is found."""

import re
from collections.abc import Callable, Iterable, Iterator

TOO_LONG = "expected a number of at most 64 bits; send longer ones as text"
MAX_NAME = 64
"""Characters of one name in a path."""
MAX_PATH = 200
_SURROGATE = re.compile("[\ud800-\udfff]")

Step = str | int


def fields_with(bad: Callable[[object], bool], data: object) -> Iterator[str]:
    """The paths (`messages[0].content`) of the values that are `bad`, and of the objects with names that are, in
    order; what lies below a bad name is left out."""
    for path, value in _walk(data, bad):
        if isinstance(value, dict):
            if any(map(bad, value)):
                yield written(path)
        elif not isinstance(value, list) and bad(value):
            yield written(path)


def fields_with_members(more_than: int, data: object) -> Iterator[str]:
    """The paths of the objects with more members than this."""
    for path, value in _walk(data, lambda _: False):
        if isinstance(value, dict) and len(value) > more_than:
            yield written(path)


def written(path: Iterable[Step]) -> str:
    """A path for people, cut to what they can read."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step[:MAX_NAME]
            text += f".{name}" if text else name
        if len(text) > MAX_PATH:
            break
    return text[:MAX_PATH] or "body"


def is_half_a_surrogate_pair(value: object) -> bool:
    """Whether it is a text that UTF-8 cannot hold."""
    return isinstance(value, str) and _SURROGATE.search(value) is not None


def has_nul(value: object) -> bool:
    """Whether it is a text with a NUL character, which PostgreSQL and most providers do not take."""
    return isinstance(value, str) and "\0" in value


def lost_digits(value: object) -> bool:
    """Whether it is a number that may have been an integer beyond 64 bits: the parser makes a floating-point number of
    it, and loses digits."""
    return isinstance(value, float) and (value >= 2**63 or value <= -(2**63)) and value.is_integer()


def _walk(data: object, bad: Callable[[object], bool]) -> Iterator[tuple[list[Step], object]]:
    """Every value with its path, which is one list that changes; nothing below names that are bad. Takes memory for the
    depth alone."""
    path: list[Step] = []
    yield path, data
    levels = [_items(data)]
    while levels:
        for step, value in levels[-1]:
            if isinstance(step, str) and bad(step):
                continue
            path.append(step)
            yield path, value
            if isinstance(value, dict | list):
                levels.append(_items(value))
                break
            path.pop()
        else:
            levels.pop()
            if path:
                path.pop()


def _items(value: object) -> Iterator[tuple[Step, object]]:
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value)) if isinstance(value, list) else iter(())
