"""Images and files of a tool's result that move to a user's message, because a result may have only text."""

from typing import Any

Part = dict[str, Any]


def attachment_notes(count: int, call_id: str) -> tuple[Part, Part]:
    """Return the text that replaces the attachments in the result, and the text before them in the user's message."""
    note = f"{count} attachment(s) of this result are in the next user message."
    head = f"Attachment(s) of the result of the tool call {call_id}:"
    return {"type": "text", "text": note}, {"type": "text", "text": head}
