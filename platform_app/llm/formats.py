"""The API formats in which clients request a chat.

Chat completions are also the neutral form: a request or response that must be translated goes through it. Where the
client and the provider speak the same format, the body passes unchanged (docs/adr/0042).
"""

from enum import StrEnum


class ApiFormat(StrEnum):
    """A format of requests and responses. The values name it in texts for people."""

    CHAT = "chat"
    """OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat."""
    RESPONSES = "responses"
    """OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses."""
    MESSAGES = "messages"
    """Anthropic's Messages: https://docs.claude.com/en/api/messages."""
