"""OpenAI's Codex: `codex exec`, which speaks `/v1/responses`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.clients.agents.agent import AFTER, BEFORE, COMMAND, FILE, NOTE, NOTED, Place, Transcript, Turn

_CONFIG = """\
model = "{model}"
model_provider = "gateway"
web_search = "disabled"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.gateway]
name = "gateway"
base_url = "{gateway}/v1"
env_key = "GATEWAY_API_KEY"
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 0
"""
_PATCH = f"*** Begin Patch\n*** Update File: {FILE}\n@@\n-{BEFORE}+{AFTER}*** End Patch\n"


class Codex:
    """See `Agent`."""

    name = "Codex"

    def turns(self, work: Path) -> Sequence[Turn]:
        """Implement Agent.turns. Codex runs `apply_patch` itself where a command begins with it."""
        return [
            {"text": "I read the file.", "calls": [_run(f"cat {FILE}")]},
            {"text": "I edit it.", "calls": [_run(f"apply_patch <<'EOF'\n{_PATCH}EOF\n")]},
            {"text": "I write a note.", "calls": [_run(f"echo {NOTED.strip()} > {NOTE}")]},
            {"text": "I run the command.", "calls": [_run(COMMAND)]},
            {"text": "Done: {result}"},
        ]

    def prepare(self, place: Place) -> Mapping[str, str]:
        """Implement Agent.prepare. The settings keep Codex from any address but the gateway's."""
        folder = place.home / ".codex"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(_CONFIG.format(model=place.model, gateway=place.gateway))
        return {"GATEWAY_API_KEY": place.key}

    def command(self, programs: Path, place: Place, prompt: str) -> Sequence[str]:
        """Implement Agent.command. The machine's kernel may lack what Codex's sandbox needs, so it runs without one."""
        flags = ("--json", "--skip-git-repo-check", "--strict-config", "--dangerously-bypass-approvals-and-sandbox")
        return [str(programs / "codex"), "exec", *flags, prompt]

    def read(self, output: str) -> Transcript:
        """Implement Agent.read."""
        lines: list[tuple[str, str]] = []
        session = final = ""
        for event in _events(output):
            match event:
                case {"type": "thread.started", "thread_id": str(thread)}:
                    session = thread
                case {"type": "item.completed", "item": {"type": "agent_message", "text": str(text)}}:
                    lines.append(("says", text))
                    final = text
                case {"type": "item.started", "item": {"type": "command_execution", "command": str(command)}}:
                    lines.append(("runs", command))
                case {"type": "item.completed", "item": {"type": "command_execution", "aggregated_output": str(text)}}:
                    lines.append(("gets", text))
                case {"type": "item.completed", "item": {"type": "file_change", "changes": changes}}:
                    lines += [("edits", f"{change['kind']} {change['path']}") for change in changes]
                case {"type": "error" | "turn.failed"}:
                    lines.append(("fails", json.dumps(event)))
        return Transcript(lines, session, final)


def _run(command: str) -> Turn:
    return {"name": "exec_command", "arguments": {"cmd": command}}


def _events(output: str) -> Sequence[object]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
