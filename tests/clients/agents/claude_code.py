"""Anthropic's Claude Code: `claude -p`, which speaks `/v1/messages`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.clients.agents.agent import AFTER, BEFORE, COMMAND, FILE, NOTE, NOTED, Place, Transcript, Turn

_TOOLS = ("Read", "Edit", "Write", "Bash")


class ClaudeCode:
    """See `Agent`."""

    name = "Claude Code"

    def turns(self, work: Path) -> Sequence[Turn]:
        """Implement Agent.turns. Its file tools take absolute paths."""
        file, note = str(work / FILE), str(work / NOTE)
        edit = {"file_path": file, "old_string": BEFORE.strip(), "new_string": AFTER.strip()}
        return [
            {"text": "I read the file.", "calls": [_call("Read", file_path=file)]},
            {"text": "I edit it.", "calls": [_call("Edit", **edit)]},
            {"text": "I write a note.", "calls": [_call("Write", file_path=note, content=NOTED)]},
            {"text": "I run the command.", "calls": [_call("Bash", command=COMMAND, description="Hash both files")]},
            {"text": "Done: {result}"},
        ]

    def prepare(self, place: Place) -> Mapping[str, str]:
        """Implement Agent.prepare. The variables keep Claude Code from any address but the gateway's."""
        return {
            "ANTHROPIC_BASE_URL": place.gateway,
            "ANTHROPIC_API_KEY": place.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # updates, telemetry, error reports
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }

    def command(self, programs: Path, place: Place, prompt: str) -> Sequence[str]:
        """Implement Agent.command."""
        flags = ("--output-format", "stream-json", "--verbose", "--model", place.model)
        return [str(programs / "claude"), "-p", *flags, "--allowedTools", ",".join(_TOOLS), "--", prompt]

    def read(self, output: str) -> Transcript:
        """Implement Agent.read."""
        lines: list[tuple[str, str]] = []
        session = final = ""
        for line in output.splitlines():
            if not line.startswith("{"):
                continue
            match json.loads(line):
                case {"type": "assistant" | "user" as role, "message": {"content": list(blocks)}}:
                    lines += (said for block in blocks for said in _block(role, block))
                case {"type": "result", "session_id": str(session), "result": str(final), "is_error": bool(failed)}:
                    lines += [("fails", final)] if failed else []
        return Transcript(lines, session, final)


def _call(tool: str, **arguments: str) -> Turn:
    return {"name": tool, "arguments": arguments}


def _block(role: str, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match block:
        case {"type": "text", "text": str(text)} if role == "assistant":
            yield "says", text
        case {"type": "tool_use", "name": str(name), "input": given}:
            yield "calls", f"{name} {json.dumps(given)}"
        case {"type": "tool_result", "content": str(text)}:
            yield "gets", text
