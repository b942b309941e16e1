"""pydantic's errors as sentences: which key, what was expected, what was found, and where."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from platform_app.config.reading.expectations import Schema, expected, keys_of, schema_at
from platform_app.config.reading.values import Path, did_you_mean, may_be_secret, path_text, shown
from platform_app.config.reading.yaml_document import Document

Problem = tuple[Path, str]
"""Where a problem is, and its sentence."""
INCONSISTENT = "inconsistent"
"""The type of pydantic errors that come from checks.py, which reports them itself."""
_OWN = ("value_error", INCONSISTENT)


def own_message(item: Mapping[str, Any]) -> str | None:
    """Return the message of one of our validators; None if the error is pydantic's."""
    return str(item["msg"]).removeprefix("Value error, ") if item["type"] in _OWN else None


def explain(errors: Sequence[Mapping[str, Any]], document: Document, schema: Schema) -> Iterator[Problem]:
    """Yield one problem for each invalid value. Checks that compare fields are not among them."""
    found: dict[Path, str] = {}
    for item in errors:
        if item["type"] != INCONSISTENT and not _follows(item, errors):
            path = _real_path(item["loc"], document.data, item["type"] == "missing")
            found.setdefault(path, _sentence(item, path, document, schema))
    for path, sentence in found.items():
        if not any(other[: len(path)] == path and other != path for other in found):
            yield path, sentence


def explain_types(paths: Iterable[Path], document: Document, schema: Schema) -> Iterator[Problem]:
    """Yield one problem for each value with the wrong type."""
    for path in paths:
        yield path, _mismatch(path, value_at(document.data, path), document, schema)


def _follows(item: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether pydantic reports a list as too short only because some of its items are invalid."""
    path = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in others
    )


def value_at(data: Any, path: Path) -> Any:
    """Return the value at this path, or None."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _real_path(loc: Sequence[str | int], data: Any, missing: bool) -> Path:
    """Return where the value is. pydantic puts the name of a union's member and marks such as `[key]` between."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        inside = part in data if isinstance(data, Mapping) else isinstance(part, int) and isinstance(data, list)
        if inside:
            path.append(part)
            data = value_at(data, (part,))
        elif missing and index == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _sentence(item: Mapping[str, Any], path: Path, document: Document, schema: Schema) -> str:
    if item["type"] == "extra_forbidden":
        return unknown_key(path, schema)
    if item["type"] == "missing":
        node = schema_at(schema, path)
        wanted = f": {expected(schema, node)}" if node else ""
        return f"{path_text(path[:-1]) or 'the file'}: the key '{path[-1]}' is missing; add it{wanted}"
    if item["loc"][-1:] == ("[key]",):
        return f"{path_text(path)}: the key is not valid; expected {_expected_key(path, schema)}"
    if (message := own_message(item)) is not None:
        value = value_at(document.data, path)
        may_show = message.startswith("expected ") and not _is_secret(path)
        return f"{path_text(path)}: {message}{f', got {shown(value)}' if may_show else ''}"
    return _mismatch(path, value_at(document.data, path), document, schema, str(item["type"]))


def unknown_key(path: Path, schema: Schema) -> str:
    """Return the sentence for a key that its mapping cannot have."""
    node = schema_at(schema, path[:-1])
    known = keys_of(schema, node) if node else []
    place = path_text(path[:-1]) or "the file"
    similar = did_you_mean(str(path[-1]), known)
    advice = f"did you mean '{similar}'?" if similar else f"the keys there are {', '.join(known)}"
    return f"unknown key '{path_text(path[-1:])}' in {place}; {advice}"


def _mismatch(path: Path, value: Any, document: Document, schema: Schema, kind: str = "") -> str:
    node = schema_at(schema, path)
    wanted = expected(schema, node) if node else "another value"
    if not path:
        wanted = f"a mapping with the keys {', '.join(keys_of(schema, schema))}"
    if kind == "decimal_max_places":
        wanted += " with at most 6 decimal places"
    got = "a value that is not shown" if _is_secret(path) else shown(value, document.sources.get(path))
    source = document.sources.get(path)
    hint = ""
    if "text" in wanted.split(" or ") or kind == "string_type":
        hint = f"; put it in quotes: '{source}'" if source and not _is_secret(path) else ""
    elif isinstance(value, str) and wanted == "true or false":
        hint = "; write true or false (YAML 1.2)"
    return f"{path_text(path) or 'the file'}: expected {wanted}, got {got}{hint}"


def _is_secret(path: Path) -> bool:
    return any(may_be_secret(part) or part == "headers" for part in path[-2:] if isinstance(part, str))


def _expected_key(path: Path, schema: Schema) -> str:
    node = schema_at(schema, path[:-1])
    pattern = next(iter((node or {}).get("patternProperties", {})), None)
    return expected(schema, {"type": "string", "pattern": pattern})
