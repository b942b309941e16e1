"""Calls to providers, written down before they are sent."""

from collections.abc import Mapping
from typing import Any

import orjson

from platform_app.ledger import usage_record
from platform_app.ledger.fields import BadLineError
from platform_app.ledger.pending import PendingLines
from platform_app.ledger.usage_record import MAX_NAME, UsageRecord, decode_usage

_INTENT, _SETTLEMENT = "intent", "settlement"


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
    # orjson writes the record as it is: a fifth of the time of `record.line()`, which cuts what is too long. That is
    # done when the intent is read, which is seldom.
    return orjson.dumps({_INTENT: record, _SETTLEMENT: settlement or None}, option=orjson.OPT_APPEND_NEWLINE)


def is_intent(members: Mapping[str, Any]) -> bool:
    """Whether these members of a pending line are an intent's."""
    return _INTENT in members


def read_intent(members: Mapping[str, Any]) -> tuple[UsageRecord, object]:
    """The record and the settlement of an intent; None in place of a settlement where nothing is to be charged.

    Raises:
        BadLineError: it holds no record that could be shipped.
    """
    fields = members[_INTENT]
    if not isinstance(fields, dict):
        raise BadLineError("an intent is not an object")
    cut = {name: value[:MAX_NAME] if isinstance(value, str) else value for name, value in fields.items()}
    return decode_usage({"kind": usage_record.KIND, **cut}), members.get(_SETTLEMENT)
