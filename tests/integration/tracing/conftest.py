"""What the exporter's process needs in its environment."""

from collections.abc import Iterator

import pytest

from tests.support.observability.tracing.otlp import Received, grpc_receiver, http_receiver


@pytest.fixture
def settings_environment() -> dict[str, str]:
    """The settings of the parent, of which the exporter reads its own alone."""
    return {
        "PLATFORM_ENV": "dev",
        "PLATFORM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "PLATFORM_REDIS_URL": "redis://127.0.0.1:1",
        "PLATFORM_API_KEY_PEPPER": f"1:{'0' * 64}",
        "PLATFORM_CONFIG_FILE": "none.yaml",
    }


@pytest.fixture
def http_collector() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


@pytest.fixture
def grpc_collector() -> Iterator[Received]:
    with grpc_receiver() as received:
        yield received
