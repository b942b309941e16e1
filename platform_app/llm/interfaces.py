"""The interfaces of the way to a model: adapters, which speak a wire format, and upstreams, which add policies."""

from typing import Protocol

from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.requests import ModelCall, UpstreamCall
from platform_app.llm.responses import ModelResponse

UpstreamResponse = ModelResponse | ChunkStream
"""A ChunkStream where the call asked for a stream, else a ModelResponse."""


class ModelAdapter(Protocol):
    """Speaks one provider's wire format. Every failure is one of the ProviderFailed or RequestRefused errors;
    nothing of the provider's library or of HTTP gets out."""

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """The whole answer, or a stream once its first chunk is there, so that everything up to then can still be
        tried elsewhere. Cancelling it closes the connection to the provider at once.

        Raises:
            ProviderFailed: the provider's bad day.
            RequestRefused: the request itself is wrong, says the provider or what its wire format can express.
        """
        ...

    async def probe(self, credential: str | None, timeout_seconds: float) -> bool:
        """Request the provider's list of models, which costs nothing and needs the credential.

        Return whether the provider has such a list: False for a 404, which some compatible servers return.

        Raises:
            ProviderFailed, RequestRefused: like `send`. The error's `__cause__` is a TransportError, a TimeoutError, or
                an UnexpectedStatus that holds the status of the response.
        """
        ...


class Upstream(Protocol):
    """One way to get a model's answer: a route, or a policy around other upstreams."""

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See ModelAdapter.send; may also raise Unavailable (ProviderNotConfigured, Overloaded)."""
        ...


class Credentials(Protocol):
    """Providers' credentials by the name of their secret."""

    async def get(self, name: str) -> str:
        """The credential. Raises ProviderNotConfigured where there is none."""
        ...

    async def refresh(self, name: str, rejected: str) -> str:
        """The credential after a provider refused `rejected`; the same one where the store has no other."""
        ...
