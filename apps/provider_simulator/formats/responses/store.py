"""Stored responses: a bounded memory of the simulator."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.provider_simulator.model.simulated_model import JsonObject

MAX_STORED = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """One response, with the whole conversation before it."""

    response: JsonObject
    items: Sequence[JsonObject]
    """The items of the conversation up to this response's output, without instructions."""


class ResponseStore:
    """The last thousand stored responses, by id."""

    def __init__(self) -> None:
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def add(self, response: JsonObject, items: Sequence[JsonObject]) -> None:
        """Store a response; the oldest one is forgotten if there are too many."""
        self._stored[str(response["id"])] = Stored(response, items)
        if len(self._stored) > MAX_STORED:
            self._stored.popitem(last=False)

    def get(self, response_id: str) -> Stored | None:
        """Return a stored response, or None."""
        return self._stored.get(response_id)

    def delete(self, response_id: str) -> bool:
        """Forget a response. Return whether it was stored."""
        return self._stored.pop(response_id, None) is not None

    def item(self, item_id: object) -> Mapping[str, object] | None:
        """Return an item of any stored response by its id, or None."""
        for stored in reversed(self._stored.values()):
            for item in stored.items:
                if item.get("id") == item_id:
                    return item
        return None

    def clear(self) -> None:
        """Forget all responses."""
        self._stored.clear()
