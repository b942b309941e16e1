"""The parent stays small because of what it does not import."""

import subprocess
import sys

import pytest

HEAVY = {
    "aiohttp", "alembic", "asyncpg", "fastapi", "httpx", "openai", "opentelemetry", "pydantic", "redis", "sqlalchemy",
    "starlette", "typer", "uvicorn", "yaml", "platform_app.config", "platform_app.llm", "apps.platform_api.main",
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "limit"), [("apps.platform_cli.serve.parent", 600), ("apps.platform_cli.serve.start_signals", 100)]
)
def test_parent_imports_nothing_heavy(module: str, limit: int) -> None:
    script = f"import {module}, sys; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert module in loaded
    assert loaded & HEAVY == set()
    assert len(loaded) < limit
