"""Providers and models in the config file: which provider models serve which public model name."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from platform_app.config.connections.tls_files import certificate_problem
from platform_app.config.fields import FilePath, HttpUrl, ModelName, NameOrWildcard, RuleName, SecretName
from platform_app.config.reading.checks import Check, ConfigModel
from platform_app.config.reading.explain import Problem

WireFormat = Literal["openai", "openai-responses", "azure", "anthropic"]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{1,512}$")]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Feature = Literal["tools", "images", "audio", "documents", "json_schema", "reasoning", "prompt_caching"]
Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]

OWN_HEADERS = frozenset(
    {"authorization", "x-api-key", "api-key", "proxy-authorization", "cookie", "host", "content-length",
     "content-type", "content-encoding", "transfer-encoding", "connection", "accept-encoding"}
)  # fmt: skip
"""Headers that the gateway sets itself; credentials come from the secret store."""


class PriceConfig(ConfigModel):
    """What a model's tokens cost."""

    input_usd_per_million: Usd
    output_usd_per_million: Usd
    cached_input_usd_per_million: Usd | None = Field(
        None, description="Input that was read from the provider's cache; without it as much as other input."
    )
    cache_write_usd_per_million: Usd | None = Field(
        None, description="Input that was written to the provider's cache; without it as much as other input."
    )
    cache_write_1h_usd_per_million: Usd | None = Field(
        None, description="What stays in the cache for an hour; without it as much as other writing."
    )


class ProviderConfig(ConfigModel):
    """One provider account: its address, its wire format and the name of its credential."""

    wire_format: WireFormat = Field("openai", description="How requests are written.")
    base_url: HttpUrl = Field(
        description="openai: the address before /chat/completions. openai-responses: the address before /responses. "
        "azure: the resource, without a path. anthropic: the address before /v1/messages."
    )
    api_key_secret: SecretName | None = Field(
        None, description="Name of the credential in the secret store. Without it no credential is sent."
    )
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32)] = Field(
        {}, description="Sent with every request, such as OpenAI-Organization; nothing secret."
    )
    api_version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,40}$")] | None = Field(
        None, description="azure: api-version, required. anthropic: anthropic-version, 2023-06-01 without it."
    )
    client_cert_file: FilePath | None = Field(
        None, description="PEM file of the certificate that the gateway shows to this provider (mutual TLS)."
    )
    client_key_file: FilePath | None = Field(
        None, description="PEM file of its private key, without a passphrase; without it client_cert_file holds it too."
    )
    allow_fields: Annotated[tuple[FieldName, ...], Field(max_length=128)] = Field(
        (),
        description="Request fields that are forwarded although they can choose another model, provider, address or "
        "price, such as data_sources, service_tier or tools.web_search. Their effect is neither checked against "
        "the key's models nor priced.",
    )
    only_known_fields: bool = Field(
        False,
        description="Refuse every field that is not OpenAI's and not in allow_fields, for upstreams that route "
        "requests themselves.",
    )
    stores_responses: bool = Field(
        False,
        description="Only of wire_format openai-responses: clients may store responses at this provider (store: true), "
        "continue, read and delete them.",
    )
    max_concurrent: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Calls at once from each process; unlimited without it."
    )
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = Field(
        100, description="Calls that may wait for their turn where max_concurrent is reached; others are refused."
    )

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return (self._own_headers, self._client_certificate, self._versions, self._stored_responses)

    def _own_headers(self) -> Iterator[Problem]:
        for name in self.headers:
            if name.lower() in OWN_HEADERS:
                yield ("headers", name), "the gateway sets this header itself; remove it"

    def _client_certificate(self) -> Iterator[Problem]:
        if self.client_cert_file is None:
            if self.client_key_file is not None:
                yield ("client_key_file",), "is the key of client_cert_file, which is missing; add it"
            return
        if self.base_url.startswith("http:"):
            yield ("client_cert_file",), "needs a base_url with https://"
        if (problem := certificate_problem(self.client_cert_file, self.client_key_file)) is not None:
            yield ("client_cert_file",), problem

    def _stored_responses(self) -> Iterator[Problem]:
        if self.stores_responses and self.wire_format != "openai-responses":
            yield ("stores_responses",), "is only for wire_format openai-responses; leave it out"

    def _versions(self) -> Iterator[Problem]:
        if self.wire_format == "azure" and self.api_version is None:
            yield ("api_version",), "azure needs one, such as 2024-10-21; add it"
        if self.wire_format not in ("azure", "anthropic") and self.api_version is not None:
            yield ("api_version",), "is for azure and anthropic; leave it out"


class CapabilitiesConfig(ConfigModel):
    """What a model behind `wire_format: anthropic` supports, where that differs from the gateway's own table."""

    efforts: tuple[Literal["low", "medium", "high", "xhigh", "max"], ...] | None = Field(
        None, description="Levels of its effort parameter; an empty list: it has none."
    )
    thinking_budget: bool | None = Field(
        None, description="It thinks with a budget of tokens; what reasoning_effort becomes where efforts is empty."
    )
    structured_outputs: bool | None = Field(None, description="It takes a JSON Schema as response_format.")
    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="The most that max_tokens may be there."
    )


class RouteConfig(ConfigModel):
    """One way to serve a model: the provider, and the model's name at that provider."""

    provider: RuleName
    model: NameOrWildcard = Field(
        description="The model's name at the provider (azure: the deployment's). In a model whose name has a *, a * "
        "here stands for what that * matched."
    )
    weight: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="Its share of the traffic among the model's routes that have a weight. Routes without one are "
        "tried in their order when the others fail; where no route has one, the first gets all.",
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        None, description="For one try; without it what is left of PLATFORM_PROVIDER_TOTAL_TIMEOUT_SECONDS."
    )
    first_token_seconds: Annotated[float, Field(gt=0, le=600)] | None = Field(
        None,
        description="A stream without content by then is given up and the next route tried; without it as "
        "policies.first_token_seconds.",
    )
    price: PriceConfig | None = Field(None, description="Without it the price list of the library genai-prices.")
    capabilities: CapabilitiesConfig | None = Field(
        None, description="Only of wire_format anthropic: overrides what the gateway knows of the model."
    )


class ModelConfig(ConfigModel):
    """A public model name and the routes that serve it, best first."""

    routes: Annotated[tuple[RouteConfig, ...], Field(min_length=1, max_length=16)]
    aliases: Annotated[tuple[ModelName, ...], Field(max_length=64)] = Field(
        (), description="Further names under which clients may request the model."
    )
    strategy: Literal["weighted", "least_busy", "latency"] = Field(
        "weighted",
        description="How a call gets one of the routes that have a weight: by weight; the one with the fewest calls in "
        "flight relative to its weight (least_busy); the one with the shortest time to the first content (latency).",
    )
    affinity: bool = Field(
        True,
        description="Calls of one session stay on one of the routes that have a weight while it is healthy, so that "
        "the provider's prompt cache is used.",
    )
    kind: Literal["chat", "embedding"] | None = Field(
        None, description="The model's purpose, shown by /v1/models; default: derived from the name."
    )
    context_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(
        None, description="Size of the context window in tokens, shown by /v1/models; default: as in genai-prices."
    )
    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="Maximum length of a completion in tokens, shown by /v1/models."
    )
    features: tuple[Feature, ...] | None = Field(
        None, description="The model's capabilities, shown by /v1/models; default: what is known of Anthropic's models."
    )

    def checks(self) -> Iterable[Check]:
        """See ConfigModel.checks."""
        return tuple(partial(self._is_new, index) for index in range(len(self.routes)))

    def _is_new(self, index: int) -> Iterator[Problem]:
        route = self.routes[index]
        complete = [other for other in self.routes[:index] if other.is_complete]
        if any((other.provider, other.model) == (route.provider, route.model) for other in complete):
            yield (
                ("routes", index),
                f"the route {route.provider}/{route.model} occurs twice; remove the copy, a failed route is retried "
                "anyway",
            )
