"""Create the adapter of a provider in the config file."""

from platform_app.config import ProviderConfig
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.tls import ClientCertificate
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.providers.anthropic import errors as anthropic_errors
from platform_app.llm.providers.anthropic.adapter import AnthropicAdapter
from platform_app.llm.providers.openai import errors as openai_errors
from platform_app.llm.providers.openai.adapter import OpenAIAdapter
from platform_app.llm.providers.openai.azure import AzureOpenAIAdapter
from platform_app.llm.providers.openai_responses.adapter import OpenAIResponsesAdapter


def client_certificate(provider: ProviderConfig) -> ClientCertificate | None:
    """Return the client certificate for connections to the provider, if it has one."""
    if provider.client_cert_file is None:
        return None
    key = provider.client_key_file
    return ClientCertificate(str(provider.client_cert_file), None if key is None else str(key))


def make_adapter(provider: ProviderConfig, pool: ConnectionPool, limits: ProviderLimits) -> ModelAdapter:
    """Return the adapter for the provider's wire format. It uses the pool, but does not close it."""
    errors = anthropic_errors if provider.wire_format == "anthropic" else openai_errors
    http = ProviderHttp(pool, limits, provider.headers, errors.error_from_response, client_certificate(provider))
    match provider.wire_format:
        case "openai":
            return OpenAIAdapter(http, provider.base_url, provider.allow_fields)
        case "openai-responses":
            return OpenAIResponsesAdapter(http, provider.base_url)
        case "azure":
            # The check of the config file makes sure that an azure provider has a version.
            return AzureOpenAIAdapter(http, provider.base_url, provider.api_version or "", provider.allow_fields)
        case "anthropic":
            return AnthropicAdapter(http, provider.base_url, provider.api_version)
