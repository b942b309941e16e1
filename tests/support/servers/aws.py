"""AWS Secrets Manager as moto simulates it, on a real socket."""

import json
from collections.abc import Mapping
from typing import Self

import httpx
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.support.servers.network.ports import free_port

REGION = "eu-central-1"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTCANARY000001",
    "AWS_SECRET_ACCESS_KEY": "aws-canary-7d3e5f1a9c2b4068",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class SecretsManager:
    """`with SecretsManager() as aws:`; after `stop` and `start` it has the same address and what it had in it."""

    def __init__(self) -> None:
        self._port = free_port()
        self._server: ThreadedMotoServer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()
        return self

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def put(self, name: str, value: str) -> None:
        if self._call("PutSecretValue", {"SecretId": name, "SecretString": value}) != 200:
            assert self._call("CreateSecret", {"Name": name, "SecretString": value}) == 200

    def put_bytes(self, name: str) -> None:
        assert self._call("CreateSecret", {"Name": name, "SecretBinary": "AAEC"}) == 200

    def delete(self, name: str, *, at_once: bool = True) -> None:
        """At once, or marked for deletion."""
        assert self._call("DeleteSecret", {"SecretId": name, "ForceDeleteWithoutRecovery": at_once}) == 200

    def _call(self, action: str, body: Mapping[str, object]) -> int:
        """moto checks no signature; the region is read from where one would be."""
        headers = {
            "X-Amz-Target": f"secretsmanager.{action}",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/{REGION}/secretsmanager/aws4_request, "
            "SignedHeaders=host, Signature=x",
        }
        with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
            return client.post(self.address, content=json.dumps(body), headers=headers).status_code
