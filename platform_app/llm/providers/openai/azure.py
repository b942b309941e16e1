"""The adapter for Azure OpenAI: OpenAI's format under a deployment's path, with Azure's key header.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/reference. A route's model is the name of a deployment,
which determines the model; the body has no model.
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.interfaces import ModelList, UpstreamResponse
from platform_app.llm.providers.openai.chat_fields import sent_fields
from platform_app.llm.providers.openai.format import PATHS, send_openai
from platform_app.llm.requests import UpstreamCall


class AzureOpenAIAdapter:
    """`base_url` is the resource's URL without a path; `http` uses the error table of openai/errors.py."""

    def __init__(self, http: ProviderHttp, base_url: str, api_version: str, allow_fields: Collection[str] = ()) -> None:
        self._http = http
        self._allow_fields = allow_fields
        self._root = f"{base_url}/openai"
        self._version = f"api-version={quote(api_version)}"

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """See ModelAdapter.send."""
        path = f"deployments/{quote(call.model, safe='')}/{PATHS[call.operation]}"
        url = f"{self._root}/{path}?{self._version}"
        fields, names = sent_fields(call, self._allow_fields)
        return await send_openai(self._http, url, _headers(credential, call.headers), call, fields, names)

    def translate(self, call: UpstreamCall) -> Mapping[str, Any] | None:
        """See TranslatingAdapter.translate."""
        return None if call.format is ApiFormat.CHAT else sent_fields(call, self._allow_fields)[0]

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        """See ModelAdapter.probe. Azure lists the models that the resource could deploy, and no deployments."""
        body = await self._http.get(f"{self._root}/models?{self._version}", _headers(credential, {}), timeout_seconds)
        return None if body is None else ModelList()


def _headers(credential: str | None, extra: Mapping[str, str]) -> Mapping[str, str]:
    return extra if credential is None else {**extra, "api-key": credential}
