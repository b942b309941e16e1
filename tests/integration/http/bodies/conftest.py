"""Headers of a request with a body."""

import pytest

from tests.support.gateway.refused_bodies import JSON


@pytest.fixture
def headers(chat_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {chat_key}", "Content-Type": JSON}
