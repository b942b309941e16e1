"""The Vault store's login with a Kubernetes service account: a real OpenBao, and a stand-in for the cluster's API."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from platform_app.errors import SecretStoreUnavailable
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import Credential, KubernetesLogin
from platform_app.secret_store.vault.store import VaultSecretStore
from tests.support.servers.openbao import OpenBao


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """Yield a server with one secret, a policy that may read it, and TLS, because the Kubernetes method needs a CA."""
    with OpenBao(tmp_path_factory.mktemp("openbao"), tls=True) as running:
        running.put("app/KEY", "v1")
        running.policy("app", "secret/data/app/*")
        yield running


class TokenReview(BaseHTTPRequestHandler):
    """The one route of Kubernetes that Vault asks: whose token is this?"""

    reviewed: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        token = body["spec"]["token"]
        self.reviewed.append(self.path)
        user = {
            "username": "system:serviceaccount:flowbiz:platform",
            "uid": "1f2d",
            "groups": ["system:serviceaccounts"],
        }
        known = {"authenticated": True, "user": user, "audiences": ["https://kubernetes.default.svc"]}
        status = known if token == ACCOUNT_TOKEN else {"authenticated": False}
        answer = json.dumps(
            {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}
        ).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _part(data: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


# The form of a service account's token; who it is, the cluster says (TokenReview).
ACCOUNT_TOKEN = ".".join(
    [
        _part({"alg": "RS256", "kid": "k"}),
        _part(
            {
                "iss": "kubernetes/serviceaccount",
                "sub": "system:serviceaccount:flowbiz:platform",
                "aud": ["https://kubernetes.default.svc"],
                "exp": 4102444800,
                "iat": 1700000000,
                "kubernetes.io": {"namespace": "flowbiz", "serviceaccount": {"name": "platform", "uid": "1f2d"}},
            }
        ),
        "c2lnbmF0dXJlLWNhbmFyeQ",
    ]
)


@pytest.fixture(scope="module")
def cluster(bao: OpenBao) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenReview)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    bao.call("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    bao.call(
        "POST",
        "auth/kubernetes/config",
        {
            "kubernetes_host": f"http://127.0.0.1:{server.server_port}",
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": bao.ca_file.read_text(),  # wanted, and not used without TLS
        },
    )
    bao.call(
        "POST",
        "auth/kubernetes/role/platform",
        {
            "bound_service_account_names": ["platform"],
            "bound_service_account_namespaces": ["flowbiz"],
            "token_policies": ["app"],
            "token_ttl": "1h",
        },
    )
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def logging_in(bao: OpenBao, login: KubernetesLogin) -> VaultSecretStore:
    http = VaultHttp(bao.address, None, ssl.create_default_context(cafile=bao.ca_file))
    return VaultSecretStore(http, login, "secret", "app", timeout_seconds=60)


class TestKubernetes:
    async def test_kubernetes_service_account_logs_in(self, bao: OpenBao, cluster: None, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(ACCOUNT_TOKEN)
        login = KubernetesLogin("kubernetes", "platform", Credential("F", file=path))
        store = logging_in(bao, login)
        assert (await store.get("KEY")).value == "v1"
        await store.aclose()
        assert TokenReview.reviewed == ["/apis/authentication.k8s.io/v1/tokenreviews"]

    async def test_kubernetes_role_of_another_account_is_refused(
        self, bao: OpenBao, cluster: None, tmp_path: Path
    ) -> None:
        path = tmp_path / "token"
        path.write_text(ACCOUNT_TOKEN)
        login = KubernetesLogin("kubernetes", "admin", Credential("F", file=path))
        store = logging_in(bao, login)
        with pytest.raises(SecretStoreUnavailable, match="PLATFORM_VAULT_ROLE 'admin'") as caught:
            await store.get("KEY")
        await store.aclose()
        assert ACCOUNT_TOKEN not in str(caught.value)
