"""HTTP to HashiCorp Vault and OpenBao: requests, and the meaning of error responses.

Sources: https://openbao.org/api-docs/ and https://developer.hashicorp.com/vault/api-docs. The two agree on everything
that this module uses.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from platform_app.connection_failures import server_failure
from platform_app.errors import SecretStoreUnavailable

_SOCKET_SECONDS = 3.0
_MAX_CONNECTIONS = 10


class VaultHttp:
    """Send requests to one server. A response that is not a JSON object raises SecretStoreUnavailable.

    No error contains a token, a body or the server's message. Redirects are not followed and the environment's proxies
    are not used, so the token is sent to the configured address only.
    """

    def __init__(self, address: str, namespace: str | None, tls: ssl.SSLContext) -> None:
        self.address = address
        headers = {"X-Vault-Request": "true", "User-Agent": "flowbiz-platform"}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        self._client = httpx.AsyncClient(
            base_url=f"{address}/v1/",
            headers=headers,
            verify=tls,
            trust_env=False,
            timeout=_SOCKET_SECONDS,
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS),
        )

    async def send(
        self, method: str, path: str, token: str | None = None, body: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return the status and the JSON object of a response; an empty object if it has no body.

        Raises:
            SecretStoreUnavailable: no response, a server error, or a response that is not Vault's.
        """
        headers = {"X-Vault-Token": token} if token else {}
        try:
            response = await self._client.request(method, path, headers=headers, json=body)
        except httpx.HTTPError as error:
            why = server_failure(error, "PLATFORM_VAULT_ADDR", "PLATFORM_VAULT_CA_FILE")
            raise SecretStoreUnavailable(f"Vault at {self.address} does not respond: {why}") from None
        if response.status_code == 503:
            raise SecretStoreUnavailable(f"Vault at {self.address} is sealed or starting (503); unseal it")
        if response.status_code >= 500 or response.status_code == 429:
            raise SecretStoreUnavailable(f"Vault at {self.address} responded with {response.status_code}")
        if response.is_redirect:
            raise SecretStoreUnavailable(
                f"Vault at {self.address} redirects ({response.status_code}); set PLATFORM_VAULT_ADDR to the address "
                "of the active node, or of a load balancer that finds it"
            )
        return response.status_code, self._json(response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        if not response.content:
            return {}
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise SecretStoreUnavailable(
                f"the server at {self.address} is not Vault ({response.status_code}, not a JSON object)"
            )
        return answer
