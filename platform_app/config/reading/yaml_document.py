"""Read YAML by the rules of YAML 1.2 (core schema), with the line of every value and all problems at once.

PyYAML parses the text; it resolves plain values by YAML 1.1, where `0100` is 64, `1:30` is 90 and `on` is true. So its
nodes are converted here (docs/adr/0040).
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from platform_app.config.reading.values import Path, path_text

MAX_VALUES = 100_000
"""Values in a document after aliases are expanded."""
MAX_DEPTH = 50
_PLAIN = "plain"
_TAG = "tag:yaml.org,2002:"
_CORE_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq"})
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL, _HEX = re.compile(r"0o[0-7]+"), re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
MAX_DIGITS = 40
_LONG_ESCAPE = re.compile(r"\\U([0-9A-Fa-f]{8})")
_MERGE = "<<"
Merged = dict[str, tuple[yaml.Node, yaml.Node]]
"""A mapping's keys, each with the nodes of key and value."""


class InvalidYaml(Exception):
    """The text cannot be parsed. The message names the line and quotes nothing."""


@dataclass(slots=True)
class Document:
    """What a YAML text says."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    sources: dict[Path, str] = field(default_factory=dict)
    """Plain values as they are written."""
    problems: list[tuple[Path, int, str]] = field(default_factory=list)
    """Path, line and sentence of each problem."""
    refused: set[Path] = field(default_factory=set)
    """Paths whose value is one of the problems."""

    def line_of(self, path: Path) -> int:
        """Return the line of the value, or of the closest value around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _PlainLoader(yaml.loader.BaseLoader):
    """Give every plain value the same tag, so that it differs from one with an explicit tag and from a quoted one."""

    yaml_implicit_resolvers: Any = {None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012 - so named and typed by PyYAML


def read_yaml(text: str) -> Document:
    """Read one document.

    Raises:
        InvalidYaml: the text is not YAML, or expands to too many values.
    """
    try:
        node = yaml.compose(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise InvalidYaml(_syntax_problem(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise InvalidYaml(f"line {line}: the character U+{code:04X} is not allowed; remove it") from None
    except (ValueError, OverflowError):  # PyYAML passes every number of \U… to chr()
        raise InvalidYaml(_escape_problem(text)) from None
    except RecursionError:
        raise InvalidYaml(f"values are nested more than {MAX_DEPTH} deep") from None
    document = Document()
    if node is not None:
        _Size().count(node, 0)
        document.data = _Builder(document).build(node, ())
    return document


def _escape_problem(text: str) -> str:
    codes = (found for found in _LONG_ESCAPE.finditer(text) if int(found[1], 16) > sys.maxunicode)
    first = next(codes, None)
    where = f"line {text.count(chr(10), 0, first.start()) + 1}: " if first else ""
    return f"{where}an escape in double quotes has a number above 10FFFF, which no character has; correct or remove it"


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    parts = [part for part in (error.context, error.problem) if part]
    text = f"{where}{', '.join(parts)}"
    if "found another document" in text:
        return f"{text}; the file must hold one document, so remove the line '---' between them"
    if r"'\t'" in text:
        return f"{text}; indent with spaces"
    return text


class _Size:
    """Counts values as if aliases were copies, without copying."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def count(self, node: yaml.Node, depth: int) -> int:
        """Return the number of values; raise InvalidYaml if there are too many."""
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise InvalidYaml(f"line {line}: an alias refers to a value that contains the alias; write the value out")
        if depth > MAX_DEPTH:
            raise InvalidYaml(f"line {line}: values are nested more than {MAX_DEPTH} deep")
        if id(node) not in self._known:
            self._open.add(id(node))
            total = 1 + sum(self.count(child, depth + 1) for child in _children(node))
            self._open.remove(id(node))
            if total > MAX_VALUES:
                raise InvalidYaml(f"line {line}: aliases expand to more than {MAX_VALUES:,} values; write less of them")
            self._known[id(node)] = total
        return self._known[id(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


class _Builder:
    """Converts nodes to data, and collects what is wrong."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def build(self, node: yaml.Node, path: Path) -> Any:
        """Return the data of a node."""
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag.removeprefix(_TAG) not in _CORE_TAGS and node.tag != _PLAIN:
            tag = node.tag.replace(_TAG, "!!")
            self._refuse(path, node, f"the tag {tag[:60]} is not supported; remove it")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        value = self._scalar(node, path)
        if value is None and path:
            self._refuse(path, node, "has no value; write a value, or remove the key")
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        built = {}
        for key, (key_node, value) in self._entries(node, path).items():
            self._document.lines[(*path, key)] = key_node.start_mark.line + 1
            built[key] = self.build(value, (*path, key))
        return built

    def _entries(self, node: yaml.MappingNode, path: Path) -> Merged:
        """Return the mapping's own keys and those that it merges; its own win."""
        own: Merged = {}
        merged: Merged = {}
        merges = 0
        for key_node, value in node.value:
            if key_node.tag == _PLAIN and key_node.value == _MERGE:
                merges += 1
                merged = {**self._merged(value, path), **merged}
                continue
            key = self._key(key_node, path)
            if key in own:
                first = own[key][0].start_mark.line + 1
                self._problem(
                    path, key_node, f"the key '{key}' occurs twice{_within(path)}, first in line {first}; remove one"
                )
            elif key is not None:
                own[key] = (key_node, value)
        if merges > 1:
            self._problem(path, node, f"the key '<<' occurs twice{_within(path)}; merge a list: '<<: [*one, *other]'")
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: Path) -> Merged:
        found: Merged = {}
        for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(source, yaml.MappingNode):
                found = {**self._entries(source, path), **found}
            else:
                self._problem(path, source, f"'<<'{_within(path)} must name a mapping, such as '<<: *defaults'")
        return found

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(path, node, f"a key{_within(path)} is a list or a mapping; expected text")
            return None
        text = str(node.value)
        value = _plain_value(text) if node.tag == _PLAIN else text
        if value is None:
            self._problem(path, node, f"a key{_within(path)} is missing or null; write it, in quotes if it is a name")
            return None
        if not isinstance(value, str):
            kind = "true or false" if isinstance(value, bool) else "a number"
            self._problem(path, node, f"the key {text}{_within(path)} is {kind}; as a name it needs quotes: '{text}'")
        return text

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(_TAG)
        if tag == _PLAIN:
            self._document.sources[path] = text
            if len(text) > MAX_DIGITS and _is_number(text):
                self._refuse(path, node, f"the number has more than {MAX_DIGITS} digits")
                return 0
            return _plain_value(text)
        value = text if tag == "str" else _plain_value(text)
        wanted = {"str": str, "int": int, "float": float | int, "bool": bool, "null": type(None)}.get(tag, ())
        if not isinstance(value, wanted) or (isinstance(value, bool) and tag != "bool"):
            self._refuse(path, node, f"the value does not have the type of its tag !!{tag}")
        return value

    def _refuse(self, path: Path, node: yaml.Node, sentence: str) -> None:
        self._document.refused.add(path)
        self._problem(path, node, f"{path_text(path) or 'the file'}: {sentence}")

    def _problem(self, path: Path, node: yaml.Node, sentence: str) -> None:
        self._document.problems.append((path, node.start_mark.line + 1, sentence))


def _plain_value(text: str) -> str | int | float | bool | None:
    """Return what a plain value means in YAML 1.2's core schema."""
    if _NULL.fullmatch(text):
        return None
    if (found := _BOOL.fullmatch(text)) is not None:
        return found[1] is not None
    if _INT.fullmatch(text):
        return int(text) if len(text) <= MAX_DIGITS else text
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0) if len(text) <= MAX_DIGITS else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if (special := _SPECIAL.fullmatch(text)) is not None:
        return float(f"{special[1] or ''}{'nan' if text.lower().endswith('nan') else 'inf'}")
    return text


def _is_number(text: str) -> bool:
    return any(form.fullmatch(text) for form in (_INT, _OCTAL, _HEX))


def _within(path: Path) -> str:
    return f" in {path_text(path)}" if path else ""
