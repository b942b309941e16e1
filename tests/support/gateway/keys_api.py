"""The routes of the lifecycle of keys, as a holder of a key uses them, and the tables behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.support.gateway.process import Gateway
from tests.support.timing.apart import run_apart


@dataclass(frozen=True)
class Api:
    """The routes of the lifecycle, as the holder of one key uses them."""

    client: httpx.AsyncClient
    base_url: str
    key: str

    def at(self, gateway: Gateway) -> "Api":
        """The same key at another gateway."""
        return Api(self.client, gateway.base_url, self.key)

    def holding(self, key: str) -> "Api":
        """Another key at the same gateway."""
        return Api(self.client, self.base_url, key)

    async def call(self, method: str, path: str = "", **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}", **arguments.pop("headers", {})}
        return await self.client.request(
            method, f"{self.base_url}/v1/platform/api-keys{path}", headers=headers, **arguments
        )

    async def create(self, **fields: Any) -> httpx.Response:
        body = {"name": "a test", "owner": "tests", "scopes": ["platform:chat"], **fields}
        return await self.call("POST", json=body)

    async def created(self, **fields: Any) -> tuple[str, str]:
        """The id and the text of a new key."""
        response = await self.create(**fields)
        assert response.status_code == 201, response.text
        return response.json()["api_key"]["key_id"], response.json()["key"]

    async def page(self, **query: Any) -> httpx.Response:
        return await self.call("GET", params=query)

    async def listed(self, **query: Any) -> list[str]:
        """The ids on the only page."""
        response = await self.page(**query)
        assert response.status_code == 200, response.text
        assert response.json()["next_cursor"] is None
        return [key["key_id"] for key in response.json()["data"]]

    async def show(self, key_id: str) -> httpx.Response:
        return await self.call("GET", f"/{key_id}")

    async def update(self, key_id: str, **changes: Any) -> httpx.Response:
        return await self.call("PATCH", f"/{key_id}", json=changes)

    async def rotate(self, key_id: str, grace: int) -> httpx.Response:
        return await self.call("POST", f"/{key_id}/rotate", json={"grace_period_seconds": grace})

    async def rotated(self, key_id: str, grace: int) -> str:
        """The new text."""
        response = await self.rotate(key_id, grace)
        assert response.status_code == 200, response.text
        key: str = response.json()["key"]
        return key

    async def revoke(self, key_id: str, reason: str = "a test") -> httpx.Response:
        return await self.call("POST", f"/{key_id}/revoke", json={"reason": reason})

    async def chat(self, key: str, **body: Any) -> httpx.Response:
        """A chat request with another key."""
        return await self.client.post(
            f"{self.base_url}/v1/platform/chat",
            headers={"Authorization": f"Bearer {key}"},
            json={"prompt": "Hello", **body},
        )

    async def use(self, *keys: str) -> list[int]:
        """The status of a chat request with each of these keys."""
        return [(await self.chat(key)).status_code for key in keys]


def sql(url: str, statement: str, **parameters: Any) -> list[Mapping[str, Any]]:
    """Run one statement on a separate connection and return its rows, if there are any."""

    async def work() -> list[Mapping[str, Any]]:
        engine = create_async_engine(url, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement), parameters)
                return [dict(row) for row in result.mappings()] if result.returns_rows else []
        finally:
            await engine.dispose()

    return run_apart(work)


def details(response: httpx.Response) -> str:
    """Return message and details of an error response as one text."""
    error = response.json()["error"]
    return " ".join([error["message"], *error.get("details", [])])


def but_its_use(key: dict[str, Any]) -> dict[str, Any]:
    """A key as it is shown, without when it was used last, which is noted in the background."""
    return {name: value for name, value in key.items() if name != "last_used_at"}
