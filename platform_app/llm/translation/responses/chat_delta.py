"""Read a chat completion's message, or the delta of a chunk, whatever shape the server gives its content."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from platform_app.llm.message_shapes import parts_of, text_of_part

REASONING = ("reasoning_content", "reasoning")


def reasoning_of(delta: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the field and the text of the reasoning. Some servers send the same text in both fields."""
    for name in REASONING:
        text = delta.get(name)
        if isinstance(text, str) and text:
            return name, text
    content = delta.get("content")
    # Mistral: thinking among the parts of the content
    texts = "" if isinstance(content, str) else "".join(_thinking_texts(parts_of(content)))
    return (REASONING[0], texts) if texts else None


def blocks_of(delta: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list, such as `thinking_blocks`."""
    listed = delta.get(name)
    return [block for block in listed if isinstance(block, dict)] if isinstance(listed, list) else []


def text_of(content: object) -> str:
    """Return the text of a content: a text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    return "".join(text for part in parts_of(content) if (text := text_of_part(part)))


def annotation_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an annotation in the Responses API's flat shape."""
    kind = given.get("type")
    inner = given.get(kind) if isinstance(kind, str) else None
    return {"type": kind, **inner} if isinstance(inner, dict) else dict(given)


def logprobs_of(choice: Mapping[str, Any]) -> list[Any] | None:
    """Return the log probabilities of the text; None if there are none."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return None
    return [{"top_logprobs": [], **each} for each in content if isinstance(each, dict)]


def _thinking_texts(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and part.get("type") == "thinking":
            thinking = part.get("thinking")
            yield thinking if isinstance(thinking, str) else text_of(thinking)
