"""Each error code of AWS Secrets Manager gets the text that says what to do about it."""

from typing import Any

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from platform_app.errors import SecretStoreUnavailable
from platform_app.secret_store.aws import AwsSecretStore


class FailingStore(AwsSecretStore):
    """A store whose service responds with an error code."""

    def __init__(self, code: str) -> None:
        super().__init__(AioSession(), "eu-central-1")
        self._client = self
        self._code = code

    async def get_secret_value(self, **_: Any) -> None:
        """Respond as botocore's client does."""
        raise ClientError({"Error": {"Code": self._code, "Message": "canary"}}, "GetSecretValue")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "needs a role with secretsmanager:GetSecretValue"),
        ("ThrottlingException", "reached its limit of requests"),
        ("InternalServiceError", "on AWS's side"),
        ("InternalServiceErrorException", "on AWS's side"),
        ("ExpiredTokenException", "credentials have expired"),
        ("InvalidSignatureException", "set this machine's clock"),
        ("UnrecognizedClientException", "check AWS_ACCESS_KEY_ID"),
        ("DecryptionFailure", "enable the key"),
        ("SomethingNew", "its error code is all that is known"),
    ],
)
async def test_error_code_gets_its_own_advice(code: str, words: str) -> None:
    with pytest.raises(SecretStoreUnavailable) as caught:
        await FailingStore(code).get("KEY")
    text = str(caught.value)
    assert f"({code}); " in text
    assert words in text
    assert "canary" not in text
    assert ("needs a role" in text) == (code == "AccessDeniedException")
