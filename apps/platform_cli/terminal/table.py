"""Tables for people: a header, columns as wide as their cells, and nothing cut off."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence

GAP = 2


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> list[str]:
    """Return the lines of a table. If it is wider than `columns`, each row becomes a block of `TITLE value` lines, so
    that a narrow terminal breaks no row. None means that the output has no width, such as a pipe."""
    cells = [list(header), *(list(map(_printable, row)) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = ["".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if columns is None or not rows or max(map(_width, lines)) <= columns:
        return lines
    titles = max(map(_width, header))
    blocks = [
        [f"{_padded(title, titles)}{cell}".rstrip() for title, cell in zip(header, row, strict=True)]
        for row in cells[1:]
    ]
    return [line for block in blocks for line in (*block, "")][:-1]


def terminal_columns() -> int | None:
    """Return the width of the terminal that stdout is, or None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell) + GAP)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _printable(text: str) -> str:
    """Return the text without control characters, which could steer a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "�" for each in text)
