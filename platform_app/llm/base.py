"""The interface of every provider adapter and of the policies that wrap one."""

from collections.abc import AsyncGenerator
from typing import Protocol

from platform_app.llm.types import ChatChunk, ChatCompletion, UpstreamCall


class ChatAdapter(Protocol):
    """Speaks one provider's wire format. Every failure is one of the ProviderFailed or RequestRefused errors;
    nothing of the provider's library or of HTTP gets out."""

    async def complete(self, call: UpstreamCall, credential: str) -> ChatCompletion:
        """The whole answer. Cancelling it closes the connection to the provider at once."""
        ...

    def stream(self, call: UpstreamCall, credential: str) -> AsyncGenerator[ChatChunk, None]:
        """The answer as it comes. Closing or cancelling the generator closes the connection at once.

        Ends normally only after the provider said that the answer is complete.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...
