"""Decide whose API a client speaks from the request's path and headers, before any route is known.

A path that does not exist counts too, so that a client that tries it gets an error that it can read.
"""

from platform_app.observability.context import ClientContract

_OWN = ("/v1/platform/", "/v1/meta")
_MESSAGES = "/v1/messages"
_OPENAI_ONLY = ("/v1/chat/", "/v1/embeddings", "/v1/responses", "/openai/")


def contract_of(path: str, has_anthropic_version: bool) -> ClientContract:
    """Return the contract of a request.

    Everything under /v1 that is not the platform's own is OpenAI's, as is Azure's /openai. Anthropic's are its own
    paths, and the paths that both APIs have, or that do not exist, if the client sends `anthropic-version`.
    """
    if not path.startswith(("/v1/", "/openai/")) or path.startswith(_OWN):
        return ClientContract.PLATFORM
    if path == _MESSAGES or path.startswith(f"{_MESSAGES}/"):
        return ClientContract.ANTHROPIC
    if has_anthropic_version and not path.startswith(_OPENAI_ONLY):
        return ClientContract.ANTHROPIC
    return ClientContract.OPENAI
