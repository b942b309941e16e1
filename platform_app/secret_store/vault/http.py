"""The HTTP of HashiCorp Vault and OpenBao: requests, and what their refusals mean.

Paths, headers and answers are those of https://openbao.org/api-docs/ and https://developer.hashicorp.com/vault/api-docs,
which agree in all that is used here.
"""

import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from platform_app.errors import SecretStoreUnavailable

_SOCKET_SECONDS = 3.0
_MAX_CONNECTIONS = 10


class VaultHttp:
    """Sends requests to one server; answers are JSON objects, everything else is SecretStoreUnavailable.

    No error carries a token, a body or the server's own words. Redirects are not followed, and the environment's
    proxies are not used: the token goes to the configured address only.
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
        """Status and JSON of an answer; an empty object where there is none.

        Raises:
            SecretStoreUnavailable: no answer, one of the server's own failures, or one that is no Vault's.
        """
        headers = {"X-Vault-Token": token} if token else {}
        try:
            response = await self._client.request(method, path, headers=headers, json=body)
        except httpx.HTTPError as error:
            raise SecretStoreUnavailable(f"Vault at {self.address} does not answer ({type(error).__name__})") from None
        if response.status_code == 503:
            raise SecretStoreUnavailable(f"Vault at {self.address} is sealed or starting (503); unseal it")
        if response.status_code >= 500 or response.status_code == 429:
            raise SecretStoreUnavailable(f"Vault at {self.address} answers {response.status_code}")
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
                f"what answers at {self.address} is no Vault ({response.status_code}, no JSON object)"
            )
        return answer
