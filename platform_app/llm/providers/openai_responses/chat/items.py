"""Translate a chat's messages to the input items of the Responses API."""

from collections.abc import Callable, Mapping
from typing import Any

from platform_app.llm.codecs.value_count import ValueBudget
from platform_app.llm.errors import unsupported
from platform_app.llm.providers.chat_messages import located_messages, tool_calls_of
from platform_app.llm.providers.tools.ids import ToolIds
from platform_app.llm.translation.carried import carried_reasoning, is_carried

Item = dict[str, Any]
_REASONING_FIELDS = ("id", "summary", "content", "encrypted_content")


class InputItems:
    """The translated messages of a request."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.has_reasoning = False
        """Whether an item has encrypted reasoning of this format."""
        self._ids = ToolIds()
        self._budget = ValueBudget()
        self._custom: set[str] = set()
        """The ids of calls of custom tools."""

    def read(self, messages: object) -> None:
        """Translate all messages.

        Raises:
            ProviderRejectedRequest: a message or part cannot be translated; the error names it.
        """
        for where, message in located_messages(messages):
            self._read(message, where)
        if (call := self._ids.without_result()) is not None:
            raise unsupported(call, "must have a result with its id on this model")

    def _read(self, message: Mapping[str, Any], where: str) -> None:
        role = message.get("role")
        match role:
            case "system" | "developer":
                self._add(role, _content(message.get("content"), where, _text_part))
            case "user":
                self._add(role, _content(message.get("content"), where, _part))
            case "assistant":
                self._read_assistant(message, where)
            case "tool":
                self._read_result(message, where)
            case _:
                raise unsupported(f"{where}.role", "must be system, developer, user, assistant or tool on this model")

    def _add(self, role: str, content: str | list[Item]) -> None:
        if content:
            self.items.append({"role": role, "content": content})

    def _read_assistant(self, message: Mapping[str, Any], where: str) -> None:
        calls = tool_calls_of(message, where)
        items: list[Item] = []
        content = message.get("content")
        written = _content("" if content is None else content, where, _assistant_part)
        if isinstance(refusal := message.get("refusal"), str) and refusal:
            written = [*_as_parts(written), {"type": "refusal", "refusal": refusal}]
        if written:
            items.append({"role": "assistant", "content": written})
        items += [self._call(call, f"{where}.tool_calls.{index}") for index, call in enumerate(calls)]
        if items:  # reasoning must be followed by what it led to
            items = [*self._reasoning(message, where), *items]
        self.items += items

    def _reasoning(self, message: Mapping[str, Any], where: str) -> list[Item]:
        """Return reasoning that this format encrypted. Any other has no meaning for the provider: it is left out, and
        so is reasoning without encrypted content, since nothing is stored."""
        given = message.get("reasoning_items")
        if given is None:
            given = _carried(message.get("thinking_blocks"), f"{where}.thinking_blocks", self._budget)
        if not isinstance(given, list):
            raise unsupported(f"{where}.reasoning_items", "must be a list of items from a response")
        made = []
        for index, item in enumerate(given):
            if not isinstance(item, dict) or not isinstance(item.get("summary", []), list):
                raise unsupported(f"{where}.reasoning_items.{index}", "must be a reasoning item from a response")
            sealed = item.get("encrypted_content")
            if not isinstance(sealed, str) or not sealed or is_carried(sealed):
                continue
            kept = {name: item[name] for name in _REASONING_FIELDS if item.get(name) is not None}
            made.append({"type": "reasoning", "summary": [], **kept})
        self.has_reasoning = self.has_reasoning or bool(made)
        return made

    def _call(self, call: Any, where: str) -> Item:
        match call:
            case {"id": str(call_id), "type": "custom", "custom": {"name": str(name), "input": str(text)}}:
                made = self._ids.call(call_id, where)
                self._custom.add(made)
                return {"type": "custom_tool_call", "call_id": made, "name": name, "input": text}
            case {"id": str(call_id), "function": {"name": str(name), **function}}:
                made = self._ids.call(call_id, where)
                arguments = function.get("arguments")
                if arguments is not None and not isinstance(arguments, str):
                    raise unsupported(f"{where}.function.arguments", "must be text")
                written = arguments if arguments and arguments.strip() else "{}"
                return {"type": "function_call", "call_id": made, "name": name, "arguments": written}
            case _:
                raise unsupported(where, "must be a call of a function or a custom tool, with an id and a name")

    def _read_result(self, message: Mapping[str, Any], where: str) -> None:
        call_id = message.get("tool_call_id")
        if not isinstance(call_id, str):
            raise unsupported(f"{where}.tool_call_id", "is required")
        made = self._ids.result(call_id)
        if made is None:
            raise unsupported(f"{where}.tool_call_id", "must be the id of a call in an assistant message before it")
        kind = "custom_tool_call_output" if made in self._custom else "function_call_output"
        self.items.append({"type": kind, "call_id": made, "output": _content(message.get("content"), where, _part)})


def _carried(blocks: object, where: str, budget: ValueBudget) -> list[Item]:
    """Return the reasoning items in the signatures of thinking blocks."""
    found = (
        carried_reasoning(block.get("signature"), f"{where}.{index}.signature", budget)
        for index, block in enumerate(blocks if isinstance(blocks, list) else ())
        if isinstance(block, dict)
    )
    return [item for item in found if item is not None]


def _as_parts(content: str | list[Item]) -> list[Item]:
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}] if content else []
    return content


def _content(content: object, where: str, read_part: Callable[[Any, str], Item]) -> str | list[Item]:
    """Return the content of a message: a text stays one."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise unsupported(f"{where}.content", "must be text or a list of parts")
    return [read_part(part, f"{where}.content.{index}") for index, part in enumerate(content)]


def _text_part(part: Any, where: str) -> Item:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "input_text", "text": text}
        case _:
            raise unsupported(where, "must be text on this model")


def _assistant_part(part: Any, where: str) -> Item:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "output_text", "text": text}
        case {"type": "refusal", "refusal": str(refusal)}:
            return {"type": "refusal", "refusal": refusal}
        case _:
            raise unsupported(where, "must be text or a refusal on this model")


def _part(part: Any, where: str) -> Item:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "input_text", "text": text}
        case {"type": "image_url", "image_url": {"url": str(url), **image}}:
            return {"type": "input_image", "image_url": url, "detail": image.get("detail") or "auto"}
        case {"type": "image_url", "image_url": str(url)}:
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case {"type": "file", "file": dict(file)}:
            return _file(file, where)
        case {"type": str(kind)}:
            raise unsupported(where, f"parts of type '{kind[:40]}' are not available on this model")
        case _:
            raise unsupported(where, "must be a part with a type")


def _file(file: Mapping[str, Any], where: str) -> Item:
    given = {name: file[name] for name in ("file_id", "file_data", "filename", "file_url") if file.get(name)}
    if not given.keys() & {"file_id", "file_data", "file_url"}:
        raise unsupported(f"{where}.file", "must have file_data or file_id")
    return {"type": "input_file", **given}
