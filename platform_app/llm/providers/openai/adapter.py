"""The adapter for servers that speak OpenAI's format under OpenAI's paths."""

from collections.abc import Collection, Mapping
from typing import Any

from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.interfaces import ModelList, UpstreamResponse
from platform_app.llm.providers.model_list import read_model_list
from platform_app.llm.providers.openai.chat_fields import sent_fields
from platform_app.llm.providers.openai.format import PATHS, send_openai
from platform_app.llm.requests import UpstreamCall


class OpenAIAdapter:
    """`base_url` is the URL before /chat/completions; `http` uses the error table of openai/errors.py. `allow_fields`
    are the provider's in the config file."""

    def __init__(self, http: ProviderHttp, base_url: str, allow_fields: Collection[str] = ()) -> None:
        self._http = http
        self._allow_fields = allow_fields
        self._base_url = base_url
        self._urls = {operation: f"{base_url}/{path}" for operation, path in PATHS.items()}

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """See ModelAdapter.send."""
        fields, names = sent_fields(call, self._allow_fields)
        body = {**fields, "model": call.model}
        url = self._urls[call.operation]
        return await send_openai(self._http, url, _headers(credential, call.headers), call, body, names)

    def translate(self, call: UpstreamCall) -> Mapping[str, Any] | None:
        """See TranslatingAdapter.translate."""
        return None if call.format is ApiFormat.CHAT else sent_fields(call, self._allow_fields)[0]

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        """See ModelAdapter.probe."""
        body = await self._http.get(f"{self._base_url}/models", _headers(credential, {}), timeout_seconds)
        return None if body is None else read_model_list(body)


def _headers(credential: str | None, extra: Mapping[str, str]) -> Mapping[str, str]:
    return extra if credential is None else {**extra, "Authorization": f"Bearer {credential}"}
