"""uvicorn's HTTP protocol, with one write for an answer and a word to whoever works for a client that left."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from apps.platform_api.departure import Departure
from apps.platform_api.one_write import JoiningTransport


class ServerProtocol(HttpToolsProtocol):
    """For uvicorn's `http` option."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._departure = Departure(self._read_on)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own narrowing
        """See asyncio.BaseProtocol."""
        super().connection_made(JoiningTransport(transport, self.loop))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        super().connection_lost(exc)
        self._departure.happen()

    def on_message_begin(self) -> None:
        """uvicorn has just made the scope of a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._departure.extension()  # type: ignore[typeddict-item]  # of our own

    def _read_on(self) -> None:
        """As uvicorn's `receive` does for whoever waits in it."""
        if not self.transport.is_closing():
            self.flow.resume_reading()
