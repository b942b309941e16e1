"""The adapter for Anthropic's Messages API (https://docs.claude.com/en/api/messages). Chat completions are translated;
a client's Messages request passes unchanged."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm import errors
from platform_app.llm.formats import ApiFormat
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.event_stream import ResponseReader, open_stream, read_whole
from platform_app.llm.interfaces import ModelList, UpstreamResponse
from platform_app.llm.providers.anthropic.chat.request import messages_request
from platform_app.llm.providers.anthropic.chat.response import read_message
from platform_app.llm.providers.anthropic.chat.stream import AnthropicEventDecoder
from platform_app.llm.providers.anthropic.native.conversion import assemble_message, split_message
from platform_app.llm.providers.anthropic.native.request import COUNTED_FIELDS, native_request
from platform_app.llm.providers.anthropic.native.response import read_native_message, read_token_count
from platform_app.llm.providers.anthropic.native.stream import NativeEventDecoder
from platform_app.llm.providers.model_list import read_model_list
from platform_app.llm.providers.tools.custom_tools import custom_tools
from platform_app.llm.providers.tools.names import ANTHROPIC_LENGTH, tool_names
from platform_app.llm.requests import Operation, UpstreamCall
from platform_app.llm.translation.guard import translating

DEFAULT_VERSION = "2023-06-01"

MAX_LISTED = 1000
"""The largest page of Anthropic's list of models."""


READER = ResponseReader(read_message, AnthropicEventDecoder)
NATIVE_READER = ResponseReader(read_native_message, NativeEventDecoder, split_message, assemble_message)


class AnthropicAdapter:
    """`base_url` is the URL before /v1/messages; `http` uses the error table of anthropic/errors.py."""

    def __init__(self, http: ProviderHttp, base_url: str, version: str | None = None) -> None:
        self._http = http
        self._root = f"{base_url}/v1"
        self._version = version or DEFAULT_VERSION

    async def send(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """See ModelAdapter.send. A request that cannot be translated is refused before anything is sent."""
        if call.operation is Operation.COUNT_TOKENS:
            return await self._count_tokens(call, credential)
        if call.operation is not Operation.CHAT:
            raise errors.unsupported(call.operation.value, "is not available at this model's provider")
        if call.format is ApiFormat.MESSAGES:
            body, reader = native_request(call), NATIVE_READER
        else:
            body, reader = _translated(call)
        own = call.format_headers if call.format is ApiFormat.MESSAGES else {}
        headers = self._headers_with(credential, {**call.headers, **own})
        url = f"{self._root}/messages"
        response = await self._http.post(url, headers, body, call.timeout_seconds, call.record)
        if call.stream:
            return await open_stream(response, reader)
        return await read_whole(response, reader)

    def translate(self, call: UpstreamCall) -> Mapping[str, Any] | None:
        """See TranslatingAdapter.translate."""
        return None if call.format is ApiFormat.MESSAGES else _translated(call)[0]

    async def _count_tokens(self, call: UpstreamCall, credential: str | None) -> UpstreamResponse:
        """Count the tokens of a Messages request. Anthropic does not bill this."""
        body = {name: value for name, value in native_request(call).items() if name in COUNTED_FIELDS}
        headers = self._headers_with(credential, {**call.headers, **call.format_headers})
        url = f"{self._root}/messages/count_tokens"
        response = await self._http.post(url, headers, body, call.timeout_seconds, call.record)
        return read_token_count(await response.read_body())

    async def probe(self, credential: str | None, timeout_seconds: float) -> ModelList | None:
        """See ModelAdapter.probe."""
        url = f"{self._root}/models?limit={MAX_LISTED}"
        body = await self._http.get(url, self._headers_with(credential, {}), timeout_seconds)
        return None if body is None else read_model_list(body)

    def _headers_with(self, credential: str | None, extra: Mapping[str, str]) -> Mapping[str, str]:
        headers = {"anthropic-version": self._version, **extra}
        if credential is not None:
            headers["x-api-key"] = credential
        return headers


@translating
def _translated(call: UpstreamCall) -> tuple[dict[str, Any], ResponseReader]:
    """Return the request, and what reads its response with the client's tools."""
    chat = call.chat_body()
    if call.format is ApiFormat.RESPONSES:  # Codex sends a verbosity for each model that it knows
        chat = {name: value for name, value in chat.items() if name != "verbosity"}
    custom = custom_tools(chat)
    functions = custom.in_request(chat)
    names = tool_names(functions, ANTHROPIC_LENGTH)
    fields = names.in_request(functions)
    body = messages_request(call.model, fields, stream=call.stream, capabilities=call.capabilities)
    return body, custom.reader(names.reader(READER))
