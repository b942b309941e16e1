"""How many bytes of request bodies a process holds at once, in all and for each key."""

from platform_app.errors import Overloaded, RateLimited
from platform_app.observability import metrics

_RETRY_SECONDS = 1.0


class BodyBudget:
    """Counts bytes from their arrival to the end of their request.

    For a key counts what its requests have declared, so that the last one is refused before any of it is read; for the
    process what has arrived, so that declaring alone takes up nothing of it.
    """

    def __init__(self, process_bytes: int, key_bytes: int) -> None:
        self._process_bytes = process_bytes
        self._key_bytes = key_bytes
        self._by_key: dict[str, int] = {}
        self.held = 0

    def reserve(self, key_id: str, size: int) -> None:
        """One of the key's requests is to hold so many bytes more.

        Raises:
            RateLimited: the key's requests would hold too many.
        """
        reserved = self._by_key.get(key_id, 0) + size
        if reserved > self._key_bytes:
            metrics.HTTP_REFUSED.labels("bodies_in_flight").inc()
            raise RateLimited(
                f"The running requests of your key hold bodies of more than {self._key_bytes} bytes together. Wait for "
                "some of them to end, or send smaller ones.",
                retry_after=_RETRY_SECONDS,
            )
        if reserved:
            self._by_key[key_id] = reserved

    def hold(self, size: int) -> None:
        """So many bytes have arrived.

        Raises:
            Overloaded: the process would hold too many.
        """
        if self.held + size > self._process_bytes:
            metrics.HTTP_REFUSED.labels("bodies_in_flight").inc()
            raise Overloaded(
                "This instance holds too many bytes of request bodies. Try again.", retry_after=_RETRY_SECONDS
            )
        self.held += size

    def give_back(self, key_id: str, reserved: int, held: int) -> None:
        """A request has ended."""
        self.held -= held
        left = self._by_key.get(key_id, 0) - reserved
        if left > 0:
            self._by_key[key_id] = left
        else:
            self._by_key.pop(key_id, None)
