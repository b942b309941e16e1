"""Write the chunks of a chat completion as the events of Anthropic's stream
(https://docs.claude.com/en/build-with-claude/streaming)."""

from collections.abc import Iterator, Mapping
from typing import Any

from platform_app.llm.finish_reasons import reason_of
from platform_app.llm.message_shapes import delta_of
from platform_app.llm.responses import ChatChunk
from platform_app.llm.translation.messages.ending import ending_of, usage_of, was_cut
from platform_app.llm.translation.messages.message import envelope
from platform_app.llm.translation.messages.segments import Segments
from platform_app.llm.usage.counts import TokenUsage

Fields = dict[str, Any]


class MessageEvents:
    """The events of one stream. Only the first choice counts: a Messages request asks for one."""

    def __init__(self, model: str) -> None:
        """`model` is the name that the client reads."""
        self._model = model
        self._started = False
        self._segments = Segments()
        self._current = 0
        self._open = False
        self._choice: Mapping[str, Any] = {}

    def add(self, chunk: ChatChunk) -> Iterator[Fields]:
        """Yield the events of a chunk.

        Raises:
            ProviderBadResponse: the chunk cannot continue the stream.
        """
        choice = _first_choice(chunk.body)
        if choice is not None:
            if reason_of(choice):
                self._choice = choice
            self._segments.add(delta_of(choice))
        if not self._started and (chunk.id or self._segments.all):
            yield self._start(chunk.id)
        if self._started:
            yield from self._advance()

    def finish(self, usage: TokenUsage | None) -> Iterator[Fields]:
        """Yield the events after the last chunk. `message_stop` is the last one.

        Raises:
            ProviderBadResponse: the arguments of a call are not a JSON object.
        ProviderError: the provider broke the response off.
        """
        if not self._started:
            yield self._start(None)
        cut = was_cut(self._choice)
        while self._current < len(self._segments.all):
            yield from self._send()
            yield from self._close(cut)
        ending = ending_of(self._choice, self._segments)
        yield {"type": "message_delta", "delta": ending, "usage": usage_of(usage)}
        yield {"type": "message_stop"}

    def _start(self, message_id: str | None) -> Fields:
        self._started = True
        message = {
            **envelope(message_id, self._model), "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": usage_of(None),
        }  # fmt: skip
        return {"type": "message_start", "message": message}

    def _advance(self) -> Iterator[Fields]:
        """Send the content of the first segment, and of the next one after the first is complete."""
        segments = self._segments.all
        while self._current < len(segments):
            yield from self._send()
            if self._current + 1 == len(segments) or not segments[self._current].is_complete():
                return
            yield from self._close(cut=False)

    def _send(self) -> Iterator[Fields]:
        segment, index = self._segments.all[self._current], self._current
        if not self._open:
            opened = segment.opened()
            if opened.get("name") == "":  # a call whose name has not arrived
                return
            self._open = True
            yield {"type": "content_block_start", "index": index, "content_block": opened}
        for delta in segment.deltas():
            yield {"type": "content_block_delta", "index": index, "delta": delta}

    def _close(self, cut: bool) -> Iterator[Fields]:
        segment, index = self._segments.all[self._current], self._current
        for delta in segment.ending(cut):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
        self._current += 1
        self._open = False


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    choices = body.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return None
