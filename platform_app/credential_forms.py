"""The forms of API keys: the platform's own, and those of common providers.

Clients put keys where they do not belong: into a request id, a name, a path. A text that has the form of a key is
neither stored nor sent back. The form alone does not say that a key is valid, or that a text without one is harmless.
"""

import re

# In each form, the group is the part that may stay readable.
_SURE = (
    # The platform's own; the part before the secret is public.
    rb"(fbp_(?:live|test)_[0-9A-Za-z]{12})_[0-9A-Za-z]+"
    # Stripe, Groq, xAI, Perplexity.
    rb"|((?:sk|rk)_(?:live|test)_|gsk_|xai-|pplx-)[0-9A-Za-z_-]{16,}"
    # Amazon, Google, Hugging Face, Replicate.
    rb"|(AKIA|ASIA)[0-9A-Z]{16}"
    rb"|(AIza)[0-9A-Za-z_-]{30,}"
    rb"|(hf_|r8_)[0-9A-Za-z]{30,}"
    # GitHub, GitLab, Slack, Vault.
    rb"|(gh[opsur]_|github_pat_|glpat-)[0-9A-Za-z_-]{20,}"
    rb"|(xox[abeoprs]-)[0-9A-Za-z-]{10,}"
    rb"|(hv[bsr]\.)[0-9A-Za-z_-]{20,}"
    # A JSON web token.
    rb"|(eyJ)[0-9A-Za-z_-]{16,}(?:\.[0-9A-Za-z_-]+)*"
)
# OpenAI, Anthropic, OpenRouter, DeepSeek, Langfuse. Words have this form too: "desk-20261126".
_LIKELY = re.compile(_SURE + rb"|((?:sk|pk)-)[0-9A-Za-z_-]{8,}")
_FORMS = re.compile(_SURE)
_MASKED_SURE = rb"\1\2\3\4\5\6\7\8\9[masked]"
_MASKED = rb"\1\2\3\4\5\6\7\8\9\10[masked]"
_MARKS = (
    b"fbp_", b"k-", b"k_live_", b"k_test_", b"gsk_", b"xai-", b"pplx-", b"AKIA", b"ASIA", b"AIza", b"hf_", b"r8_",
    b"gho_", b"ghp_", b"ghs_", b"ghu_", b"ghr_", b"github_pat_", b"glpat-", b"xox", b"hvb.", b"hvs.", b"hvr.", b"eyJ",
)  # fmt: skip
"""Every form contains one of these. Searching for them first is much cheaper, and most texts contain none."""

_LONG = re.compile(rb"(?<![0-9A-Za-z])(?:sk|pk)-(?=[a-zA-Z_-]*[0-9])[0-9A-Za-z_-]{20,}")
_SHORT = re.compile(rb"(?<![0-9A-Za-z])(?:sk|pk)[-_][0-9A-Za-z_-]{8,}")
# A long run of letters and digits that mixes both cases and digits: the secret part of a key without its prefix, and
# the keys of Mistral, Cohere and Azure, which have no prefix. Hexadecimal ids, UUIDs and ULIDs do not mix cases.
_MIXED_RUN = re.compile(rb"(?=[A-Za-z]*[0-9])(?=[0-9a-z]*[A-Z])(?=[0-9A-Z]*[a-z])[0-9A-Za-z]{32,}")

_KEY_PREFIX = re.compile(
    rb"(?:^|[/#])(?:(?:sk|pk|rk)[-_]|gsk_|xai-|pplx-|hv[bsr]\.|gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|fbp_)"
    rb"[0-9A-Za-z_-]{8,}"
)
_RUN = re.compile(rb"[0-9A-Za-z+=]{20,}")
_HEX = re.compile(rb"[0-9a-fA-F]{32,}")
_WHOLE_WORD = re.compile(rb"(?<![0-9A-Za-z])((?:sk|pk)-)[0-9A-Za-z_-]{8,}")
_CHANGE = re.compile(rb"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
RANDOM_CHANGES = 4
"""A run of letters and digits that changes between the two this often is random: `production2026` changes once."""


def mask_keys(text: str) -> str:
    """Return a message for an operator with every key in it masked. Names such as "risk-assessment" stay readable."""
    found = text.encode(errors="replace")
    return _WHOLE_WORD.sub(rb"\1[masked]", _FORMS.sub(_MASKED_SURE, found)).decode()


def looks_like_key(name: str) -> bool:
    """Return whether a key was given where the name of a secret is expected. Names such as `team/openai#key` and
    `OPENAI_API_KEY_2026` do not look like keys."""
    text = name.encode(errors="replace")
    if _FORMS.search(text) or _KEY_PREFIX.search(text) or _HEX.search(text):
        return True
    return any(len(_CHANGE.findall(run)) >= RANDOM_CHANGES for run in _RUN.findall(text))


def mask_credentials(text: bytes) -> bytes:
    """Return the text with every part masked that has the form of a key."""
    for mark in _MARKS:
        if mark in text:
            return _LIKELY.sub(_MASKED, text)
    return text


def holds_credential(text: bytes) -> bool:
    """Return whether a text that a person chose contains a key. In doubt False, because True refuses the text."""
    return _FORMS.search(text) is not None or _LONG.search(text) is not None


def id_may_hold_credential(text: bytes) -> bool:
    """Return whether a short id that a client chose may contain a key. In doubt True, because the gateway then makes an
    id."""
    return any(form.search(text) is not None for form in (_FORMS, _SHORT, _MIXED_RUN))
