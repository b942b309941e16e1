"""One kind of event as a row: its columns, its line in the spool, and its reports, all from the event's own fields.

An event is a dataclass whose fields are annotated with their codecs:

    occurred_at: Annotated[datetime, Moment()]

The field's name is the column's name. A line is a JSON array: the kind, then the fields in their order. What is between
its brackets is also a row of CSV as PostgreSQL's COPY reads it, if a quote is escaped by a backslash, so that lines are
shipped as they are (docs/adr/0032). That holds while no text needs another escape of JSON's than those of `"` and
`\\`: control characters are replaced.
"""

import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import orjson

from platform_app.ledger.events.codecs import BadLineError, Codec, inet, within

E = TypeVar("E")

REPLACEMENT = "\ufffd"
"""Is stored in place of a control character."""

_CONTROL = re.compile(r"[\x00-\x1f]")
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Column:
    """One field of an event, and the column of the same name."""

    name: str
    codec: Codec
    nullable: bool
    default: object
    """The value of lines without the field, which are those of earlier versions; `_NOTHING` if it is required."""

    def source(self) -> str:
        """Return Python source for the value that is written of an event `event`."""
        value = f"event.{self.name}"
        return f"None if {value} is None else {self.codec.source(value)}" if self.nullable else self.codec.source(value)

    def read(self, value: object) -> Any:
        """Return the event's value. Raises BadLineError."""
        if value is _NOTHING and self.default is not _NOTHING:
            return self.default
        if self.nullable and (value is None or value is _NOTHING):
            return None
        return self.codec.read(self.name, value)


class Columns(Generic[E]):
    """The columns of one kind of event, in the order of its lines."""

    def __init__(self, kind: str, event: type[E]) -> None:
        self.kind = kind
        self._event = event
        self._columns = [_column(field) for field in fields(event)]  # type: ignore[arg-type]  # events are dataclasses
        self.names = tuple(column.name for column in self._columns)

    def encoder(self) -> Callable[[E], bytes]:
        """Return a function that writes an event as a line, whatever its values are.

        Its innermost part is compiled from the columns, as dataclasses compile their `__init__`: a loop over the
        columns takes three times as long (docs/adr/0032).
        """
        source = ", ".join(f"({column.source()})" for column in self._columns)
        names = {"UTC": UTC, "inet": inet, "within": within}
        values = eval(f"lambda event: ({self.kind!r}, {source})", names)  # noqa: S307 - made of our own codecs' constants

        def encode(event: E) -> bytes:
            try:
                line = orjson.dumps(values(event), option=orjson.OPT_APPEND_NEWLINE)
            except orjson.JSONEncodeError:
                return _encode_cleaned(values(event))
            # Each backslash must escape a quote. An escaped backslash is fine too, and rare enough to be written again.
            if b"\\" in line and line.count(b"\\") != line.count(b'\\"'):
                return _encode_cleaned(values(event))
            return line

        return encode

    def decode_values(self, values: Sequence[object]) -> E:
        """Return the event of a line's values without the kind. Raises BadLineError."""
        if len(values) > len(self._columns):
            raise BadLineError("more values than fields")
        missing = [_NOTHING] * (len(self._columns) - len(values))
        pairs = zip(self._columns, [*values, *missing], strict=True)
        return self._event(**{column.name: column.read(value) for column, value in pairs})

    def decode_members(self, members: Mapping[str, Any]) -> E:
        """Return the event of values by name; unknown names are ignored. Raises BadLineError."""
        return self._event(**{each.name: each.read(members.get(each.name, _NOTHING)) for each in self._columns})

    def conditions(self) -> str:
        """Return a SQL condition: what `decode_values` requires of a row beyond the columns' types."""
        conditions = [column.codec.condition(column.name) for column in self._columns]
        return " AND ".join(condition for condition in conditions if condition is not None)

    def show(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a stored row as JSON-ready data for a report, the event's id first."""
        shown: dict[str, Any] = {"id": row["event_id"].hex}
        for column in self._columns:
            if column.name != "event_id":
                value = row[column.name]
                shown[column.codec.shown_as or column.name] = None if value is None else column.codec.show(value)
        return shown


def _column(field: Any) -> Column:
    annotated, codec = get_args(field.type)
    nullable = get_origin(annotated) in (Union, types.UnionType) and type(None) in get_args(annotated)
    return Column(field.name, codec, nullable, _NOTHING if field.default is MISSING else field.default)


def _encode_cleaned(values: Sequence[object]) -> bytes:
    cleaned = [_clean(value) if isinstance(value, str) else value for value in values]
    return orjson.dumps(cleaned, option=orjson.OPT_APPEND_NEWLINE)


def _clean(text: str) -> str:
    """Replace what UTF-8 or COPY cannot express."""
    return _CONTROL.sub(REPLACEMENT, text.encode("utf-8", "replace").decode())
