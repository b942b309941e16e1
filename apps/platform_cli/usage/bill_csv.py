"""Read a provider's exported bill, a CSV file, into sums by UTC day and model.

Sources of the column names: the exports of OpenAI's usage dashboard (usage and costs) and of Anthropic's console (usage
and costs). Flags name the columns of other exports.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

MAX_GROUPS = 100_000
"""The most groups (days times models) that a bill may have."""
MAX_SHOWN = 60
_MOST_COUNT = 10**15
_YEARS = range(2000, 2201)
_DELIMITERS = ",;\t"
_DATED = re.compile(r"(?:[-@]\d{4}-\d{2}-\d{2}|[-@]\d{8}|-latest)$")

Group = tuple[date, str]
"""A UTC day and a model. The model is empty if the bill names none."""


class BillError(Exception):
    """The file cannot be read as a bill. The message says where and why."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a bill. Several columns of one kind are added up."""

    day: str
    model: str | None = None
    input: tuple[str, ...] = ()
    """All input, cached input included."""
    cached: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    requests: str | None = None
    cost: str | None = None
    """US dollars."""

    def named(self) -> Sequence[str]:
        """Return each column once."""
        single = [name for name in (self.day, self.model, self.requests, self.cost) if name is not None]
        return list(dict.fromkeys([*single, *self.input, *self.cached, *self.output]))


FORMATS: Mapping[str, Columns] = {
    "openai": Columns(
        "start_time_iso", "model", ("input_tokens",), ("input_cached_tokens",), ("output_tokens",), "num_model_requests"
    ),
    "openai-cost": Columns("start_time_iso", "line_item", cost="amount_value"),
    "anthropic": Columns(
        "usage_date_utc",
        "model_version",
        (
            "usage_input_tokens_no_cache",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
            "usage_input_tokens_cache_read",
        ),
        ("usage_input_tokens_cache_read",),
        ("usage_output_tokens",),
    ),
    "anthropic-cost": Columns("usage_date_utc", "model", cost="cost_usd"),
}
"""The known exports, in the order in which a file's header is compared with them."""


@dataclass(slots=True)
class Sums:
    """Billed or used amounts."""

    input: int = 0
    cached: int = 0
    output: int = 0
    requests: int = 0
    cost: Decimal = Decimal(0)

    def add(self, other: "Sums") -> None:
        """Add another sum to this one."""
        self.input += other.input
        self.cached += other.cached
        self.output += other.output
        self.requests += other.requests
        self.cost += other.cost


@dataclass(slots=True)
class Bill:
    """A whole bill."""

    columns: Columns
    groups: dict[Group, Sums] = field(default_factory=dict)

    @property
    def by_model(self) -> bool:
        """Return whether every row names a model."""
        return bool(self.groups) and all(model for _, model in self.groups)


def read_bill(path: Path, columns: Columns | None = None, delimiter: str | None = None) -> Bill:
    """Read a bill. Without `columns` the format is detected by the header.

    Raises:
        BillError: names the line and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(file, path.name, columns, delimiter)
    except UnicodeDecodeError as error:
        raise BillError(f"{path.name}: not UTF-8 text (byte {error.start}); export it as CSV") from None
    except OSError as error:
        raise BillError(f"{path} cannot be read: {error.strerror}") from None


def family(model: str) -> str:
    """Return a model's name without its date, so that gpt-4o-2024-11-20 in a bill equals gpt-4o in a route."""
    return _DATED.sub("", model.strip()).lower()


def _read(file: Iterator[str], name: str, columns: Columns | None, delimiter: str | None) -> Bill:
    first = next(file, "")
    if not first.strip():
        raise BillError(f"{name}, line 1: the file is empty; expected a header")
    used = delimiter or max(_DELIMITERS, key=first.count)
    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=used))]
    except csv.Error as error:
        raise BillError(f"{name}, line 1: not CSV: {error}") from None
    if twice := sorted({cell for cell in header if cell and header.count(cell) > 1}):
        raise BillError(f"{name}, line 1: duplicate columns: {', '.join(map(_shown, twice))}")
    bill = Bill(columns or _detect(header, name))
    if missing := [column for column in bill.columns.named() if column not in header]:
        raise BillError(
            f"{name}, line 1: there is no column {', '.join(map(_shown, missing))}; the file has "
            f"{', '.join(map(_shown, header[:40]))}"
        )
    rows = csv.reader(file, delimiter=used, strict=True)
    try:
        for cells in rows:
            line = rows.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise BillError(f"{name}, line {line}: {len(cells)} fields, and the header has {len(header)}")
            _add(bill, _Row(f"{name}, line {line}", dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise BillError(f"{name}, line {rows.line_num + 1}: not CSV: {error}") from None
    return bill


def _detect(header: Sequence[str], name: str) -> Columns:
    for columns in FORMATS.values():
        if set(columns.named()) <= set(header):
            return columns
    known = "; ".join(f"{form}: {', '.join(columns.named())}" for form, columns in FORMATS.items())
    raise BillError(f"{name}, line 1: not a known export ({known}). Name its columns by flags")


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    cells: Mapping[str, str]

    def day(self, column: str) -> date:
        text = self.cells[column].strip()
        try:
            if text.isdecimal() and text.isascii() and len(text) == 10:
                found = datetime.fromtimestamp(int(text), UTC).date()
            elif len(text) == 10:
                found = date.fromisoformat(text)
            else:
                moment = datetime.fromisoformat(text)
                found = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)).date()
            if found.year in _YEARS:
                return found
        except (ValueError, OverflowError):
            pass
        raise self._wrong(column, "is not a day; expected 2026-11-26, a time in ISO 8601, or seconds since 1970")

    def count(self, column: str) -> int:
        value = self._number(column)
        if value != value.to_integral_value() or not 0 <= value <= _MOST_COUNT:
            raise self._wrong(column, "is not a whole number; expected 0 or more")
        return int(value)

    def cost(self, column: str) -> Decimal:
        value = self._number(column)
        if abs(value) > _MOST_COUNT:
            raise self._wrong(column, "is not an amount of US dollars")
        return value

    def _number(self, column: str) -> Decimal:
        text = self.cells[column].strip().removeprefix("$")
        if not text:
            return Decimal(0)
        if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
            text = text.replace(",", "")
        try:
            value = Decimal(text) if text.isascii() else Decimal("NaN")
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite():
            raise self._wrong(column, "is not a number")
        return value

    def _wrong(self, column: str, what: str) -> BillError:
        return BillError(f"{self.where}, column {_shown(column)}: {_shown(self.cells[column])} {what}")


def _add(bill: Bill, row: _Row) -> None:
    columns = bill.columns
    model = row.cells[columns.model] if columns.model is not None else ""
    group = row.day(columns.day), family(model.partition(",")[0])  # cost exports name "model, kind of token"
    sums = Sums(
        sum(row.count(column) for column in columns.input),
        sum(row.count(column) for column in columns.cached),
        sum(row.count(column) for column in columns.output),
        row.count(columns.requests) if columns.requests is not None else 0,
        row.cost(columns.cost) if columns.cost is not None else Decimal(0),
    )
    known = bill.groups.get(group)
    if known is not None:
        known.add(sums)
        return
    if len(bill.groups) == MAX_GROUPS:
        raise BillError(f"{row.where}: more than {MAX_GROUPS} days and models")
    bill.groups[group] = sums


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
