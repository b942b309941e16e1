"""What has the form of an API key is found in ids, names and log lines, and what has not is left alone."""

import secrets
import string
import uuid

import pytest

from platform_app.auth.tokens import generate_token
from platform_app.credential_forms import (
    holds_credential,
    id_may_hold_credential,
    mask_credentials,
)
from platform_app.observability import ids

OURS = generate_token("live").text
LETTERS = string.ascii_letters + string.digits
# Put together here, so that no scanner takes this file for a leak.
KEYS = {
    "ours": OURS,
    "ours for tests": generate_token("test").text,
    "ours without its checksum": OURS[:-6],
    "openai": "sk-" + "a1B2" * 12,
    "openai project": "sk-proj-" + "aB3_-" * 20,
    "anthropic": "sk-ant-api03-" + "Ab1_" * 20 + "AA",
    "openrouter": "sk-or-v1-" + "0f" * 32,
    "stripe": "sk_live_" + "a1B2" * 6,
    "groq": "gsk_" + "a1B2" * 13,
    "xai": "xai-" + "a1B2" * 20,
    "perplexity": "pplx-" + "0f" * 24,
    "amazon": "AKIA" + "A1B2" * 4,
    "google": "AIza" + "a1B2_" * 7,
    "hugging face": "hf_" + "aBcD" * 9,
    "replicate": "r8_" + "a1B2" * 10,
    "github": "ghp_" + "a1B2" * 9,
    "github fine-grained": "github_pat_" + "11AB_" * 12,
    "gitlab": "glpat-" + "a1B2" * 5,
    "slack": "xoxb-" + "123456789012-" * 2 + "aBcD" * 6,
    "vault": "hvs." + "CAES" * 10,
    "web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0" + "." + "abc_DEF-123",
}
BARE = {
    "our secret alone": OURS.rpartition("_")[2],
    "mistral": "a1B2c3D4" * 4,
    "cohere": "a1B2c3D4" * 5,
    "azure": "a1B2c3D4e5" * 8 + "AAAA",
}
"""Keys without a prefix: known by their length and their mix of letters alone."""
NOT_KEYS = [
    "order-4711", "req_2026.11.26:0001", str(uuid.UUID(int=2**127 + 7)), "5d9f69adf0d1d8bad6ebaae0ffdf8971",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "task-2026-11-26-0001", "desk-reservation-20261126", "risk-assessment-2026-11-26", "b" * 128, "A1" * 30, "0" * 64,
    "deploy/eu-west-1/blue".replace("/", ":"), "x-1", "fbp_live_0123456789AB", "sk-1", "skunk-works", "pk-2026",
    "2aE8bXkP0qLmZ4sWcR7tY", "1-67891233-abcdef012345678912345678",
]  # fmt: skip
NAMES = [
    "billing bot", "sk-marketing", "Risk-Assessment 2026-11-26", "sk-marketing-department-of-europe", "team eyJ",
    "it leaked: see https://example.org/commit/3f786850e387550fdab836ed7e6dc881de23001b", "Ümlaut 日本",
]  # fmt: skip


@pytest.mark.parametrize("kind", KEYS | BARE)
@pytest.mark.parametrize("around", ["{}", "order:{}", "{}.1", "a-{}-z"])
def test_key_in_request_id_is_found(kind: str, around: str) -> None:
    assert id_may_hold_credential(around.format((KEYS | BARE)[kind]).encode())


@pytest.mark.parametrize("text", NOT_KEYS)
def test_common_request_id_is_left_alone(text: str) -> None:
    assert not id_may_hold_credential(text.encode())


def test_random_ids_of_ours_are_never_refused() -> None:
    assert not any(id_may_hold_credential(ids.request_id().encode()) for _ in range(1000))


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("around", ["{}", "rotated {} today", "key={},", "Ü{}Ü", "risk-{}"])
def test_key_in_name_is_found(kind: str, around: str) -> None:
    assert holds_credential(around.format(KEYS[kind]).encode())


@pytest.mark.parametrize("text", [*NOT_KEYS, *NAMES])
def test_common_name_is_left_alone(text: str) -> None:
    assert not holds_credential(text.encode())


@pytest.mark.parametrize("kind", KEYS)
def test_key_in_log_line_is_masked(kind: str) -> None:
    key = KEYS[kind].encode()
    for text in (b'{"a":"' + key + b'"}', b"\\n" + key + b"\\n", b"x" + key + b" " + key):
        masked = mask_credentials(text)
        assert key not in masked
        assert key[-12:] not in masked
        assert masked.count(b"[masked]") == text.count(key)


def test_public_part_of_our_key_stays_readable() -> None:
    assert mask_credentials(f"key {OURS}.".encode()) == f"key {OURS[:21]}[masked].".encode()


def test_text_without_key_is_not_copied() -> None:
    text = b'{"event":"request","key_id":"abcdefghijkl","trace_id":"b7dbe7b56e61652ba859e17fa7f025b0"}'
    assert mask_credentials(text) is text


@pytest.mark.parametrize("unit", ["eyJ", "sk-", "fbp_live_", "ghp_", "sk_live_", "AKIA", "xoxb-", "hvs."])
def test_masking_takes_linear_time(unit: str) -> None:
    """Quadratic work would take minutes here; the timeout of every test would end it."""
    text = unit.encode() * (1_000_000 // len(unit))
    mask_credentials(text)
    holds_credential(text[:200])


def test_random_secrets_are_found() -> None:
    """A secret of ours without its prefix mixes both cases and digits, but for one in some hundred."""
    found = [id_may_hold_credential("".join(secrets.choice(LETTERS) for _ in range(39)).encode()) for _ in range(500)]
    assert sum(found) >= 450
