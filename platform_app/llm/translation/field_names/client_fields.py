"""Rewrite errors so that they name the fields of the client's request.

A provider names the fields of the request that it got, and a translation those of the chat completion that it read. A
client of another format has other fields: `max_output_tokens` for `max_completion_tokens`, `input[2]` for
`messages[3].tool_calls[0]`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from platform_app.errors import PlatformError
from platform_app.llm.errors import UnsupportedByProvider
from platform_app.llm.formats import ApiFormat
from platform_app.llm.requests import UpstreamCall
from platform_app.llm.translation.field_names.origins import Path, origin_of, steps_of, with_origins
from platform_app.llm.translation.field_names.renames import renamed
from platform_app.llm.translation.guard import naming_fields

_MAX_PATH = 200
_INDEX = re.compile(r"\.(\d+)(?=[.\[]|$)")
_NAMED = re.compile(
    r"(?P<quote>['\"`])(?P<quoted>[a-z][\w.\[\]]{0,199})(?P=quote)"
    r"|(?<![\w.])(?P<bare>[a-z]+(?:_[a-z]+)+(?:[.\[][\w.\[\]]*[\w\]])?"
    r"|(?:messages|input|tools|system)(?:\.|\.?\[)\d[\w.\[\]]*)(?![\w])"
)
"""Names of fields in a message: quoted, in snake case, or a path with an index."""


@runtime_checkable
class TranslatingAdapter(Protocol):
    """An adapter that translates requests of other formats than its provider's."""

    def translate(self, call: UpstreamCall) -> Mapping[str, Any] | None:
        """Return the request in the provider's format; None if the client's request passes as it came.

        Raises:
            UnsupportedByProvider: the request cannot be translated; the error names the field.
        """
        ...


def name_client_fields(error: PlatformError, call: UpstreamCall, adapter: object) -> None:
    """Rewrite an error of this call: `param`, and the names of fields in its message and details. This never raises:
    the client gets the error, if need be with the provider's names."""
    with naming_fields():
        _name(error, call, adapter)


def _name(error: PlatformError, call: UpstreamCall, adapter: object) -> None:
    use_client_names(error, call.format, call.body)
    if error.param is None and not error.details:
        return
    find = _finder(error, call, adapter)
    if find is None:
        return
    given = error.param
    if given:
        error.param = find(given) or given
    if error.details:
        error.details = [_rewritten(detail, given, error.param, find) for detail in error.details]


def use_client_names(error: PlatformError, client: ApiFormat, request: Mapping[str, Any]) -> None:
    """Rewrite the gateway's own advice, which names the fields of chat completions."""
    if client is ApiFormat.CHAT:
        return
    error.message = _rewritten(error.message, None, None, lambda name: renamed(client, name, request))
    error.message = error.message.replace(" or n.", ".")  # only chats have several choices
    error.args = (error.message,)


def written(path: Path, client: ApiFormat) -> str:
    """Return a path as the client's API writes it."""
    text = ".".join(str(step) for step in path)[:_MAX_PATH]
    return with_brackets(text) if client is ApiFormat.RESPONSES else text


def with_brackets(path: str) -> str:
    """Return `input[0].content[1]` for `input.0.content.1`."""
    return _INDEX.sub(r"[\1]", path)


_Finder = Callable[[str], str | None]


def _finder(error: PlatformError, call: UpstreamCall, adapter: object) -> _Finder | None:
    """Return what finds the client's name of a field that the error names; None if it names the client's fields."""
    if not isinstance(adapter, TranslatingAdapter):
        return None
    traced = _TracedCall(call, adapter)
    if not isinstance(error, UnsupportedByProvider):  # the provider's error
        return traced.find_upstream
    if call.format is ApiFormat.CHAT:
        return None
    if error.names_client_fields:
        return with_brackets if call.format is ApiFormat.RESPONSES else None
    return traced.find_chat


class _TracedCall:
    """A call, translated again with values that know their path in the client's request."""

    def __init__(self, call: UpstreamCall, adapter: TranslatingAdapter) -> None:
        self._call = call
        self._adapter = adapter

    @cached_property
    def _traced(self) -> UpstreamCall:
        return self._call.with_body(with_origins(self._call.body))

    @cached_property
    def chat(self) -> Mapping[str, Any] | None:
        """The chat completion; None if the request has none."""
        return self._translated(UpstreamCall.chat_body)

    @cached_property
    def upstream(self) -> Mapping[str, Any] | None:
        """The provider's request; None if the client's passed as it came, or was not sent."""
        return self._translated(self._adapter.translate)

    def _translated(self, translate: Callable[[UpstreamCall], Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
        try:
            return translate(self._traced)
        except PlatformError:
            return None

    def find_chat(self, name: str) -> str | None:
        """Return the client's name of a field of the chat completion."""
        return self._find(self.chat or {}, steps_of(name))

    def find_upstream(self, name: str) -> str | None:
        """Return the client's name of a field of the provider's request. The request is traced for the first name, so
        that an error without one costs nothing."""
        return None if self.upstream is None else self._find(self.upstream, steps_of(name))

    def _find(self, translated: Mapping[str, Any], steps: Sequence[str]) -> str | None:
        client = self._call.format
        if len(steps) == 1:
            if name := renamed(client, steps[0], self._call.body):
                return name
            if steps[0] in self._call.body:
                return steps[0]
        if origin := origin_of(translated, steps):
            return written(origin, client)
        # Not a value of the client: the translation made it.
        for length in range(len(steps), 0, -1):
            if name := renamed(client, ".".join(steps[:length]), self._call.body):
                return name
        return None


def _rewritten(text: str, given: str | None, found: str | None, find: _Finder) -> str:
    """Return a message with the client's names. `given` at its beginning becomes `found`."""
    start = ""
    if given and found and text.startswith(f"{given}:"):
        start, text = f"{found}:", text[len(given) + 1 :]

    def replace(match: re.Match[str]) -> str:
        quote, name = match["quote"] or "", match["quoted"] or match["bare"]
        return f"{quote}{find(name) or name}{quote}"

    return start + _NAMED.sub(replace, text)
