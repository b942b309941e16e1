"""The adapter for servers that speak OpenAI's Responses API under OpenAI's paths, Azure's `/openai/v1` included."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.event_stream import open_stream, read_whole
from platform_app.llm.interfaces import ModelList, UpstreamResponse
from platform_app.llm.providers.model_list import read_model_list
from platform_app.llm.providers.openai.format import PATHS, send_openai
from platform_app.llm.providers.openai_responses.chat import stream as chat_stream
from platform_app.llm.providers.openai_responses.chat.request import responses_request
from platform_app.llm.providers.openai_responses.native import stream as native_stream
from platform_app.llm.providers.openai_responses.reasoning import own_reasoning, stateless
from platform_app.llm.providers.tools.names import OPENAI_LENGTH, ToolNames, tool_names
from platform_app.llm.requests import Operation, UpstreamCall
from platform_app.llm.translation.guard import translating

_AZURE = "/openai/v1"
"""The end of the base URL of Azure's OpenAI-compatible API."""


class OpenAIResponsesAdapter:
    """`base_url` is the URL before /responses; `http` uses the error table of openai/errors.py."""

    def __init__(self, http: ProviderHttp, base_url: str) -> None:
        self._http = http
        self._base_url = base_url
        self._url = f"{base_url}/responses"

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """See ModelAdapter.send. A Responses request passes unchanged, except that it is made stateless and
        without another provider's reasoning. Any other request is translated; if it cannot be translated, it is refused
        before it is sent."""
        headers = _headers(credential, call.headers)
        if call.operation is not Operation.CHAT:
            url = f"{self._base_url}/{PATHS[call.operation]}"
            return await send_openai(self._http, url, headers, call, {**call.body, "model": call.model})
        if call.format is ApiFormat.RESPONSES:
            reader = native_stream.READER
            body = {**stateless(call.model, own_reasoning(call.body)), "model": call.model}
            if call.stream:
                body["stream"] = True
        else:
            body, names = _translated(call)
            reader = names.reader(chat_stream.READER)
        response = await self._http.post(self._url, headers, body, call.timeout_seconds, call.record)
        if call.stream:
            return await open_stream(response, reader)
        return await read_whole(response, reader)

    def translate(self, call: UpstreamCall) -> Mapping[str, Any] | None:
        """See TranslatingAdapter.translate."""
        return None if call.format is ApiFormat.RESPONSES else _translated(call)[0]

    async def read_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        """See StoredResponses.read_stored."""
        return await self._http.get(self._stored_url(response_id), _headers(credential, {}), timeout_seconds)

    async def delete_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        """See StoredResponses.delete_stored."""
        url = self._stored_url(response_id)
        return await self._http.get(url, _headers(credential, {}), timeout_seconds, delete=True)

    def _stored_url(self, response_id: str) -> str:
        return f"{self._url}/{quote(response_id, safe='')}"

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        """See ModelAdapter.probe. Azure lists the models that the resource could deploy, and no deployments."""
        body = await self._http.get(f"{self._base_url}/models", _headers(credential, {}), timeout_seconds)
        if body is not None and self._base_url.endswith(_AZURE):
            return ModelList()
        return None if body is None else read_model_list(body)


def _headers(credential: str | None, extra: Mapping[str, str]) -> Mapping[str, str]:
    return extra if credential is None else {**extra, "Authorization": f"Bearer {credential}"}


@translating
def _translated(call: UpstreamCall) -> tuple[dict[str, Any], ToolNames]:
    chat = call.chat_body()
    names = tool_names(chat, OPENAI_LENGTH)
    return responses_request(call.model, names.in_request(chat), stream=call.stream), names
