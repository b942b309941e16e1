"""Classify an error by its message: a request that is too long, filtered content, an account without credit, a refused
credential, a model that does not exist.

Most servers that speak OpenAI's format have no code for these, or their own codes. The message is used only where the
status is ambiguous (`openai/errors.py`, `anthropic/errors.py`). It never changes the meaning of a refused credential or
of a failing server.
"""

import re

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    PlatformError,
    ProviderAuthFailed,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
)

# In this order: OpenAI, vLLM, OpenRouter, xAI, NVIDIA; SGLang, vLLM; Mistral; Anthropic, Fireworks, Bedrock, llama.cpp;
# OpenAI's Responses, Ollama, llama.cpp, Anthropic; Gemini; TGI, TEI and Together; Moonshot; Cohere; Groq; LM Studio;
# Cerebras; DashScope; GitHub Models; Vertex, Nova, Zhipu; SiliconFlow, Ark.
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
    r"|token count.{0,60}only supports up to|number of (?:input |prompt )?tokens exceeds|prompt exceeds (?:the )?max"
    r"|must be less than max_seq_len|total tokens.{0,80}exceed max message tokens"
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
    r"|balance is (?:insufficient|not enough|negative)|overdue (?:balance|payment)|not[_ ]enough[_ ](?:balance|credit)"
)
_BAD_CREDENTIAL = re.compile(
    r"api[ _-]key (?:is )?(?:not valid|invalid|expired)|(?:invalid|incorrect|expired) (?:x-)?api[ _-]key"
    r"|(?:missing or )?invalid authorization header|organization (?:has been|is) disabled"
)
_NO_MODEL = re.compile(
    r"\bmodel (?:\S{1,200} )?(?:not exist|does(?: not|n't) exist)|is not a valid model"
    r"|invalid model(?: (?:id|name)\b| ?[:'\"`])|model (?:identifier|id|name) is (?:invalid|not valid)"
    r"|has been decommissioned|non-serverless model|does not work with the specified model"
    r"|with on-demand throughput|user location is not supported"
)
"""The config file names the model and the server, so the operator must act."""
_MODEL_CANNOT = re.compile(
    r"does(?: not|n't) support (?:tools?|functions?|tool calling|function calling|images?|vision|audio|video|files?|pdf"
    r"|thinking|reasoning|embeddings?|multimodal)\b|requires --enable-auto-tool-choice"
)
_UNKNOWN_FIELD = re.compile(
    r"(?:unknown|unrecognized|unexpected|unsupported) (?:request )?(?:parameter|argument|field|key)"
    r"|extra inputs are not permitted|unexpected keyword argument"
)
"""The message names a field of the request, which says nothing about content or credit."""
_ECHO = re.compile(r"""['"]input['"]: ?(?:'[^']*'|"[^"]*")""")
"""A part of the request in a validation error of FastAPI."""
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


_KINDS: tuple[tuple[re.Pattern[str], type[PlatformError]], ...] = (
    (_TOO_LONG, ContextLengthExceeded),
    (_FILTERED, ContentFiltered),
    (_BAD_CREDENTIAL, ProviderAuthFailed),
    (_NO_MODEL, ProviderNotConfigured),
    (_NO_CREDIT, ProviderQuotaExhausted),
)


def kind_by_message(message: str | None) -> type[PlatformError] | None:
    """Return the error class of a refused request, if the message is specific; else None."""
    if not message:
        return None
    lower = _ECHO.sub("", message.lower())
    if _UNKNOWN_FIELD.search(lower):
        return None
    return next((kind for pattern, kind in _KINDS if pattern.search(lower)), None)


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


def says_model_cannot(message: str | None) -> bool:
    """Return whether a refused request needs what this model does not support, so that another route may serve it."""
    return bool(message and _MODEL_CANNOT.search(message.lower()))


def names_object_of_request(message: str | None) -> bool:
    """Return whether the object that was not found is named by the request, such as a file, and is not the model."""
    return bool(message and _OF_THE_REQUEST.search(message.lower()) and "model" not in message.lower())
