"""The AWS store against moto: what the contract of all stores does not ask."""

import json
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from aiobotocore.session import AioSession, get_session

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.aws import AwsSecretStore
from tests.support.servers.aws import CREDENTIALS, REGION, SecretsManager


@pytest.fixture(scope="module")
def aws() -> Iterator[SecretsManager]:
    with SecretsManager() as running:
        yield running


@pytest.fixture(scope="module")
def session() -> AioSession:
    return get_session()


@pytest.fixture
async def store(
    aws: SecretsManager, session: AioSession, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AwsSecretStore]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made = AwsSecretStore(session, REGION, "app/", aws.address)
    yield made
    await made.aclose()


async def test_key_of_json_object_is_read(aws: SecretsManager, store: AwsSecretStore) -> None:
    aws.put("app/pair", json.dumps({"key": " v \n", "number": 5, "nothing": None}))
    assert (await store.get("pair#key")).value == "v"
    for name in ("pair#none", "pair#number", "pair#nothing"):
        with pytest.raises(SecretNotFound, match="not a JSON object with a text under"):
            await store.get(name)


@pytest.mark.parametrize("text", ["sk-plain-canary", "[1]", '"sk-quoted-canary"', "{"])
async def test_aws_secret_that_is_not_json_object_has_no_fields(
    aws: SecretsManager, store: AwsSecretStore, text: str
) -> None:
    aws.put("app/plain", text)
    assert (await store.get("plain")).value == text
    with pytest.raises(SecretNotFound) as caught:
        await store.get("plain#key")
    assert "canary" not in str(caught.value)


async def test_bytes_are_no_secret(aws: SecretsManager, store: AwsSecretStore) -> None:
    aws.put_bytes("app/bytes")
    with pytest.raises(SecretNotFound, match="bytes instead of text"):
        await store.get("bytes")


async def test_one_that_is_marked_for_deletion_is_missing(aws: SecretsManager, store: AwsSecretStore) -> None:
    aws.put("app/leaving", "v")
    aws.delete("app/leaving", at_once=False)
    with pytest.raises(SecretNotFound, match=r"or it is being deleted \(InvalidRequestException\)"):
        await store.get("leaving")


class Refusing(BaseHTTPRequestHandler):
    """Respond as AWS does if the role may not read; moto never refuses."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": "AccessDeniedException", "Message": "User: arn:aws:iam::canary is not"}).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


async def test_aws_role_without_permission_is_named_in_error(
    session: AioSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        store = AwsSecretStore(session, REGION, "app/", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(SecretStoreUnavailable, match="secretsmanager:GetSecretValue") as caught:
            await store.get("KEY")
        await store.aclose()
        server.shutdown()
        thread.join()
    assert "AccessDeniedException" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_without_credentials_it_says_so(aws: SecretsManager, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    store = AwsSecretStore(get_session(), REGION, "", aws.address)
    with pytest.raises(
        SecretStoreUnavailable, match=r"no credentials can be used \(NoCredentialsError\); give the pod"
    ):
        await store.get("KEY")
    await store.aclose()
