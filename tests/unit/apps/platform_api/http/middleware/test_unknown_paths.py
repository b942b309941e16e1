"""An almost right path gets a hint; a route of OpenAI that is not offered is named as such."""

import pytest

from apps.platform_api.http.middleware.unknown_paths import NOTHING_HERE, hint_for, methods_at
from apps.platform_api.main import create_app
from platform_app.config import load_settings

ROUTES = create_app(load_settings(database_url="postgresql://a:b@localhost/c", redis_url="redis://localhost")).routes
CHAT, EMBEDDINGS = "POST /v1/chat/completions", "POST /v1/embeddings"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/chat/completions", f"{CHAT}: paths begin with /v1, so a client's base URL ends in /v1"),
        ("/embeddings", f"{EMBEDDINGS}: paths begin with /v1"),
        ("/platform/chat", "POST /v1/platform/chat: paths begin with /v1"),
        ("/models/gpt-4o", "GET /v1/models/{model}"),
        ("/v1/chat/completions/", f"{CHAT}, without a slash at the end"),
        ("/v1/platform/usage/", "GET /v1/platform/usage, without a slash at the end"),
        ("/v1/platform/api-keys/abc/rotate/", "POST /v1/platform/api-keys/{key_id}/rotate"),
        ("/v1/platform/api-keys/", "GET or POST /v1/platform/api-keys, without a slash at the end"),
        ("//v1/chat/completions", f"{CHAT}, with single slashes"),
        ("/v1//embeddings", f"{EMBEDDINGS}, with single slashes"),
        ("/V1/Chat/Completions", f"{CHAT}, in lower case"),
        ("/v1/v1/chat/completions", CHAT),
        ("/v1/chat/completions/chat/completions", CHAT),
        ("/api/v1/chat/completions", CHAT),
        ("/v1/chat/completion", CHAT),
        ("/v1/chat", CHAT),
        ("/v1/embedding", EMBEDDINGS),
        ("/openai/chat/completions", CHAT),
        ("/openai/v1/chat/completions/", CHAT),
        ("/openai/deployments/gpt-4o/chat/completions/", CHAT),
        ("/v1%2Fchat%2Fcompletions", CHAT),
        ("/v1/chat/completions ", CHAT),
        ("/v1/chat/completions?api-version=1", CHAT),
        ("/v1/platform/api_keys", "GET or POST /v1/platform/api-keys"),
        ("/healthz/", "GET /healthz, without a slash at the end"),
        ("/health", "GET /healthz"),
        ("/openapi", "GET /openapi.json"),
        ("/v1", "base URL of OpenAI's clients"),
        ("/metrics", "another port"),
        ("/responses", "Use POST /v1/responses"),
        ("/responses/resp_1/cancel", "/v1/responses"),
        ("/v1/completions", f"older completions are not offered here; use {CHAT}"),
        ("/openai/deployments/gpt-4o/completions", "older completions are not offered here"),
        ("/openai/deployments/d/images/generations", "images API is not offered here"),
        ("/v1/audio/speech", "audio API is not offered here"),
        ("/v1/moderations", "moderations are not offered here"),
        ("/v1/fine_tuning/jobs", "fine-tuning API is not offered here"),
        ("/messages/batches", "message batches are not offered here; use POST /v1/messages"),
    ],
)
def test_almost_right_path_gets_a_hint(path: str, told: str) -> None:
    message = hint_for(path, ROUTES)
    assert message.startswith(NOTHING_HERE)
    assert told in message


@pytest.mark.parametrize("path", ["/", "", "//", "/nothing", "/.env", "/wp-login.php", "/a" * 300, "/a/" * 40, "/%00"])
def test_unrelated_path_gets_no_hint(path: str) -> None:
    assert hint_for(path, ROUTES) == NOTHING_HERE


@pytest.mark.parametrize("secret", ["/v1/chat/completions/fbp_live_0123456789ab_x", "/models/sk-proj-abc"])
def test_hint_repeats_nothing_of_the_path(secret: str) -> None:
    assert secret.rpartition("/")[2] not in hint_for(secret, ROUTES)


def test_methods_of_all_routes_of_a_path_are_listed() -> None:
    """Starlette names those of the first route alone."""
    assert methods_at("/v1/platform/api-keys", ROUTES) == ["GET", "POST"]
    assert methods_at("/v1/platform/api-keys/abc", ROUTES) == ["GET", "PATCH"]
    assert methods_at("/v1/chat/completions", ROUTES) == ["POST"]
