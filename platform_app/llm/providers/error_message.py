"""Classify an error by its message: a request that is too long, filtered content, an account without credit.

Most servers that speak OpenAI's format have no code for these, or their own codes. The message is used only where the
status is ambiguous (`openai/errors.py`, `anthropic/errors.py`). It never changes the meaning of a refused credential or
of a failing server.
"""

import re

from platform_app.errors import ContentFiltered, ContextLengthExceeded, PlatformError, ProviderQuotaExhausted

# In this order: OpenAI, vLLM, OpenRouter, xAI, NVIDIA; SGLang, vLLM; Mistral; Anthropic, Fireworks, Bedrock, llama.cpp;
# OpenAI's Responses, Ollama, llama.cpp, Anthropic; Gemini; TGI, TEI and Together; Moonshot; Cohere; Groq; LM Studio;
# Cerebras; DashScope; GitHub Models.
_TOO_LONG = re.compile(
    r"maximum (?:context|prompt|input|sequence) length"
    r"|longer than the (?:maximum model length|model'?s context|context)"
    r"|too large for model with [\d,.]+ maximum context"
    r"|(?:prompt|input|inputs) (?:is|are) too (?:long|large)|input too long"
    r"|exceed\w*.{0,60}context[ _](?:length|size|window|limit)|context[ _](?:length|size|window|limit).{0,40}exceed"
    r"|(?:input|prompt|request(?:ed)?) token count.{0,60}exceed"
    r"|tokens. ?\+ .?max_(?:new_)?tokens|must have less than [\d,.]+ tokens"
    r"|exceeded model token limit"
    r"|too many (?:input |prompt )?tokens(?! per)"
    r"|(?:reduce|shorten) the (?:length|size|number of tokens) (?:of|in) (?:the |your )?(?:messages|prompt|input)"
    r"|greater than the context length|context the overflows|context length of only|context shift is disabled"
    r"|current length is [\d,.]+ while limit"
    r"|range of input length should be"
    r"|max size: [\d,.]+ tokens"
)
_FILTERED = re.compile(
    r"content[ _-](?:\w+[ _-])?polic(?:y|ies)|content[ _-]filter|content[ _-]moderation|moderation|\bflagged\b"
    r"|usage (?:polic(?:y|ies)|guidelines)|safety (?:system|filter|polic|guideline|setting)|due to safety"
    r"|responsible ai|content exists risk|inappropriate content|sensitive (?:content|words?)|prohibited[_ ]content"
    r"|guardrail|violat\w+ .{0,60}(?:usage|content|safety|use) (?:polic|guideline)|敏感|违规|不安全"
)
_NO_CREDIT = re.compile(
    r"insufficient[_ ](?:\w+[_ ])?(?:quota|balance|credits?|funds)|exceeded (?:your|the) current quota"
    r"|credit balance|(?:out of|not enough|more) credits?\b|no credits\b(?! were)|payment required|past invoices|unpaid"
    r"|(?:spending|spend|billing hard|monthly budget) limit|specified api usage limits|billing (?:is )?not active"
    r"|quota (?:is |has been )?exhausted|account (?:\w+ )?(?:is )?(?:suspended|in arrears|overdue)|余额不足|欠费"
)
_CANNOT = re.compile(
    r"no endpoints found that (?:support|can handle)"
    r"|(?:does(?: not|n't)|do(?: not|n't)|not|un)[ -]?support(?:ed|s)?\b.{0,60}"
    r"(?:tool|function|image|vision|audio|video|file|pdf|stream|modalit|parameter|json|schema|response_format|reason"
    r"|thinking|logprob|temperature|embedding|system prompt|multimodal)"
    r"|(?:tool|function|image|vision|audio|video|file|pdf|stream|modalit|parameter|json|schema|response_format|reason"
    r"|thinking|logprob|temperature|embedding|multimodal)\w*.{0,60}(?:not|un)[ -]?support"
)
_OF_THE_REQUEST = re.compile(r"\b(?:file|image|document|url|container|skill|conversation|response|assistant|cache)s?\b")
_ABOVE_A_LIMIT = re.compile(r"request too large .{0,200}tokens per|tokens must be reduced in order to run")
_LATER = re.compile(r"(?:try again|retry) (?:in|after|at) |per (?:second|minute|hour|day)")


def kind_by_message(message: str | None) -> type[PlatformError] | None:
    """Return the error class of a refused request, if the message is specific; else None."""
    if not message:
        return None
    lower = message.lower()
    if _TOO_LONG.search(lower):
        return ContextLengthExceeded
    if _FILTERED.search(lower):
        return ContentFiltered
    return ProviderQuotaExhausted if _NO_CREDIT.search(lower) else None


def says_filtered(message: str | None) -> bool:
    """Return whether a status for refused credentials is about filtered content instead."""
    return bool(message and _FILTERED.search(message.lower()))


def says_no_credit(message: str | None) -> bool:
    """Return whether an account has no credit, so that a later retry cannot succeed. Gemini's message mentions a quota
    for every rate limit too; those messages say when to retry."""
    return bool(message and _NO_CREDIT.search(message.lower()) and not _LATER.search(message.lower()))


def says_above_limit(message: str | None) -> bool:
    """Return whether the request is larger than a rate limit, so that no retry can succeed."""
    return bool(message and _ABOVE_A_LIMIT.search(message.lower()))


def says_cannot(message: str | None) -> bool:
    """Return whether the model, or every server that has it, does not support what the request needs."""
    return bool(message and _CANNOT.search(message.lower()))


def names_object_of_request(message: str | None) -> bool:
    """Return whether the object that was not found is named by the request, such as a file, and is not the model."""
    return bool(message and _OF_THE_REQUEST.search(message.lower()) and "model" not in message.lower())
