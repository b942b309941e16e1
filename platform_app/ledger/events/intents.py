"""Calls to providers, written down before they are sent."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import orjson

from platform_app.ledger.events.codecs import BadLineError
from platform_app.ledger.events.usage_record import MAX_NAME, USAGE, UsageRecord
from platform_app.ledger.spool.pending import PendingLines

_INTENT, _SETTLEMENT, _FIELDS = "intent", "settlement", "intent_fields"
_values = attrgetter(*USAGE.names)

HEAD: Mapping[str, Any] = {_FIELDS: USAGE.names}
"""For the head of a pending file: what the values of its intents are, which may be read by another version."""


class PendingIntent:
    """See Intent. One line of the pending file, from the first attempt of a call to its end."""

    __slots__ = ("_pending", "_slot")

    def __init__(self, pending: PendingLines, record: UsageRecord, settlement: object) -> None:
        self._pending = pending
        self._slot = pending.put(_line(record, settlement))

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        """See Intent.update."""
        if self._slot is not None:
            self._pending.replace(self._slot, _line(record, settlement))

    def end(self) -> None:
        """See Intent.end."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._pending.clear(slot)


def _line(record: UsageRecord, settlement: object) -> bytes:
    # Values alone take a quarter of the time of an object, and less than a third of `record.line()`, which cuts what is
    # too long. That is done when the intent is read, which is seldom.
    return orjson.dumps({_INTENT: _values(record), _SETTLEMENT: settlement or None}, option=orjson.OPT_APPEND_NEWLINE)


def is_intent(members: Mapping[str, Any]) -> bool:
    """Whether these members of a pending line are an intent's."""
    return _INTENT in members


def read_intent(members: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[UsageRecord, object]:
    """The record and the settlement of an intent in a file with this head; None in place of a settlement where nothing
    is to be charged.

    Raises:
        BadLineError: it holds no record that could be shipped.
    """
    values, names = members[_INTENT], head.get(_FIELDS)
    if isinstance(values, list) and isinstance(names, list) and len(values) == len(names):
        found = dict(zip(names, values, strict=True))
    elif isinstance(values, dict):  # as versions before wrote it
        found = values
    else:
        raise BadLineError("an intent is neither an object nor as many values as its file names")
    cut = {name: value[:MAX_NAME] if isinstance(value, str) else value for name, value in found.items()}
    return USAGE.decode_members(cut), members.get(_SETTLEMENT)
