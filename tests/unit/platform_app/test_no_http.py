"""The core speaks no HTTP to clients: it names no response header of the gateway."""

import ast
import re
from pathlib import Path

import pytest

CORE = Path(__file__).parents[3] / "platform_app"
RESPONSE_HEADER = re.compile(
    r"retry-after|www-authenticate|x-should-retry|ratelimit(-policy)?|x-(ratelimit|platform)-.*|idempotency-replayed",
    re.IGNORECASE,
)
READS_PROVIDERS = {CORE / "llm" / "errors.py", CORE / "llm" / "http", CORE / "llm" / "providers", CORE / "secret_store"}
"""These read headers of other services' responses."""


def source_files() -> list[Path]:
    return [path for path in sorted(CORE.rglob("*.py")) if not READS_PROVIDERS & {path, *path.parents}]


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_core_names_no_response_header(path: Path) -> None:
    tree = ast.parse(path.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert [text for text in texts if RESPONSE_HEADER.fullmatch(text)] == []
    assert "response_headers" not in names
