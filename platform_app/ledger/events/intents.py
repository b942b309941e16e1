"""Intents: the usage record that the loss of a call would leave, written before the call is sent (docs/adr/0020)."""

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
"""Goes into the head of a pending file and names the values of its intents, which another version may read."""


class PendingIntent:
    """An Intent that is one line of the pending file, from the first attempt of a call to its end."""

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
    # Values alone take a quarter of the time of an object. They are cut to their bounds when the intent is read, which
    # is rare.
    return orjson.dumps({_INTENT: _values(record), _SETTLEMENT: settlement or None}, option=orjson.OPT_APPEND_NEWLINE)


def is_intent(members: Mapping[str, Any]) -> bool:
    """Return whether a pending line with these members is an intent."""
    return _INTENT in members


def read_intent(members: Mapping[str, Any], head: Mapping[str, Any]) -> tuple[UsageRecord, object]:
    """Return the record and the settlement of an intent in a file with this head. The settlement is None if nothing
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
