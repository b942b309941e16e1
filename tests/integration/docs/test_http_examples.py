"""The examples of the HTTP reference: each `curl` command gets the response that the page shows."""

import asyncio
import json
import os
import re
import shutil

import httpx
import pytest

from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from tests.conftest import Platform
from tests.support.documents.examples import same_events, same_response, same_shape
from tests.support.documents.pages import page_with_parts
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import session_on
from tests.support.ledger.events import usage

HTTP = page_with_parts("http")
EXAMPLES = re.findall(r"^```bash\n(.*?)^```\n+^```(json|text)\n(.*?)^```", HTTP, re.M | re.S)
KEY = {"name": "billing bot", "owner": "billing", "scopes": ["platform:chat"], "limits": {"key-rpm": 120}}
"""The key whose id is `$KEY_ID` in the examples."""


# Async, because the simulator runs on this process's event loop.
@pytest.mark.parametrize(
    ("command", "kind", "response"),
    EXAMPLES,
    ids=[f"{n}-{re.findall(r'/[a-z0-9/]+', e[0])[0]}" for n, e in enumerate(EXAMPLES)],
)
async def test_http_example_gets_documented_response(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, command: str, kind: str, response: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    admin = platform.key("platform:*")
    made = await client.post(
        f"{gateway.base_url}/v1/platform/api-keys", headers={"Authorization": f"Bearer {admin}"}, json=KEY
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PLATFORM_BASE_URL": gateway.base_url,
        "PLATFORM_CHAT_KEY": platform.key("platform:chat"),
        "PLATFORM_ADMIN_KEY": admin,
        "KEY_ID": made.json()["api_key"]["key_id"],
    }
    if "/v1/platform/usage" in command:
        await _record_usage(platform, environment["KEY_ID"])
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0

    if kind == "json":
        same_shape(json.loads(response), json.loads(output))
    elif response.startswith("HTTP/"):
        same_response(response, output.decode())
    elif not response.startswith(("event: ", "data: ")):
        assert output.decode() == response
    else:
        same_events(response, output.decode())


async def _record_usage(platform: Platform, key_id: str) -> None:
    """Write two usage records of this key to the ledger."""
    records = [
        usage(key_id=key_id, first_token_ms=120.5),
        usage(key_id=key_id, estimated=True, outcome="client_closed"),
    ]
    async with session_on(platform.environment["PLATFORM_DATABASE_URL"]) as session:
        assert await Shipper(session).ship(batch_of(records)) == []


def test_every_bash_block_of_http_pages_is_an_example() -> None:
    assert len(EXAMPLES) == HTTP.count("```bash\n") >= 8
