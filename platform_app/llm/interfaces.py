"""The interfaces between a caller and a model: adapters speak a wire format, upstreams add policies."""

from dataclasses import dataclass
from typing import Protocol

from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.requests import ModelCall, UpstreamCall
from platform_app.llm.responses import ModelResponse

UpstreamResponse = ModelResponse | ChunkStream
"""A ChunkStream if the call requests a stream, else a ModelResponse."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models that a provider lists."""

    names: frozenset[str] = frozenset()
    complete: bool = False
    """Whether a route's model must be among the names. False for Azure, whose routes name deployments, for a list in
    pages, and for a response that is not a list."""


class ModelAdapter(Protocol):
    """Speaks one provider's wire format. Every failure is a ProviderFailed or RequestRefused error; errors of HTTP or
    of a provider's library never leave the adapter."""

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """Return the whole response, or a stream whose first chunk has arrived: everything that fails before can be
        retried on another route. A cancellation closes the connection to the provider at once.

        Raises:
            ProviderFailed: the provider failed.
            RequestRefused: the provider refused the request, or its wire format cannot express it.
        """
        ...

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        """Request the provider's list of models, which costs nothing and needs the credential.

        Return the list, or None for a 404, which some compatible servers return.

        Raises:
            ProviderFailed, RequestRefused: like `send`. The error's `__cause__` is a TransportError, a TimeoutError, or
                an UnexpectedStatus that holds the status of the response.
        """
        ...


class Upstream(Protocol):
    """Gets a model's response: a route, or a policy around other upstreams."""

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See ModelAdapter.send. Also raises Unavailable errors (ProviderNotConfigured, Overloaded)."""
        ...


class Credentials(Protocol):
    """Looks up providers' credentials by the name of their secret."""

    async def get(self, name: str) -> str:
        """Return the credential. Raises ProviderNotConfigured if there is none."""
        ...

    async def refresh(self, name: str, rejected: str) -> str:
        """Look the credential up again after a provider refused `rejected`. Return the same one if it did not
        change."""
        ...
