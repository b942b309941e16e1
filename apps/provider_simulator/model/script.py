"""A scripted session: the turns that a message lists, played in order, for agents that run tools.

A text part of a user message that begins with `script:` holds a JSON list of turns. A turn has a `text`, `calls`, or
both; a call has the `name` of a tool and its `arguments`, an object, or a custom tool's text. The number of
tool results after that message says which turn is next, so the model keeps no state and a repeated request gets the
same turn. In a text, `{result}` stands for the last tool result.

A request without tools is not played: agents send such requests beside the session, for example for a title.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

_MARK = "script:"
_RESULT = "{result}"


class InvalidScriptError(ValueError):
    """A script that is not a list of turns."""


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One tool call; `arguments` is JSON text, or the text of a custom tool."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One response of a scripted session. A turn without calls ends the session."""

    text: str
    calls: tuple[ScriptedCall, ...]


def scripted_turn(body: Mapping[str, object], messages: Sequence[Mapping[str, object]]) -> Turn | None:
    """Return the turn that is next, or None if the request has no script or no tools.

    Raises:
        InvalidScriptError: the script is malformed.
    """
    if not body.get("tools"):
        return None
    for at in range(len(messages) - 1, -1, -1):
        if messages[at].get("role") != "user":
            continue
        script = next((text for text in _texts(messages[at]) if text.startswith(_MARK)), None)
        if script is not None:
            results = [message for message in messages[at + 1 :] if message.get("role") == "tool"]
            return _next_turn(_turns(script), results)
    return None


def _next_turn(turns: Sequence[Turn], results: Sequence[Mapping[str, object]]) -> Turn:
    """Return the first turn whose calls have no results yet; after the last turn, the last again."""
    expected = 0
    for turn in turns:
        expected += len(turn.calls)
        if not turn.calls or len(results) < expected:
            break
    last = " ".join(_texts(results[-1])) if results else ""
    return Turn(turn.text.replace(_RESULT, last.strip()), turn.calls)


def _turns(script: str) -> list[Turn]:
    try:
        listed = orjson.loads(script.removeprefix(_MARK))
        turns = [_turn(turn) for turn in listed]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidScriptError(f"The script is not a JSON list of turns: {error}.") from error
    if not turns:
        raise InvalidScriptError("The script has no turn.")
    return turns


def _turn(listed: Mapping[str, object]) -> Turn:
    calls = listed.get("calls", ())
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise TypeError("'calls' must be a list")
    return Turn(str(listed.get("text", "")), tuple(_call(call) for call in calls))


def _call(listed: Mapping[str, object]) -> ScriptedCall:
    arguments = listed["arguments"]
    return ScriptedCall(
        str(listed["name"]), arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    )


def _texts(message: Mapping[str, object]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content.lstrip()
    elif isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        yield from (text.lstrip() for text in texts if isinstance(text, str))
