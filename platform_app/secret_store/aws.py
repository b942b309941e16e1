"""Secrets from AWS Secrets Manager."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from platform_app.connection_failures import server_failure
from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.base import STORE_TIMEOUT_SECONDS, Secret, SecretReference, SecretStore, answer_within

# One attempt, because the cache retries.
_CONFIG = AioConfig(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 1}, max_pool_connections=10)
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html: the second code is returned
# for a secret that is marked for deletion.
_MISSING = frozenset({"ResourceNotFoundException", "InvalidRequestException"})
_NEEDS_ROLE = "the gateway needs a role with secretsmanager:GetSecretValue on it, and kms:Decrypt on its key"
_TOO_OFTEN = "the account reached its limit of requests; raise it if this stays"
_AWS_FAILS = "the fault is on AWS's side; it is asked again every second"
_EXPIRED = "the gateway's AWS credentials have expired; replace them"
_SIGNATURE = "the signature does not match: set this machine's clock, then check AWS_SECRET_ACCESS_KEY"
_UNKNOWN_KEY = "AWS does not know the gateway's access key; check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN"
_DECRYPTION = "its KMS key does not decrypt it: enable the key, and allow the gateway's role kms:Decrypt on it"
_NAME = "AWS does not accept this name; check PLATFORM_AWS_SECRET_PREFIX and the secret's name"
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html and GetSecretValue's own errors.
_BY_CODE = {
    "AccessDeniedException": _NEEDS_ROLE, "AccessDenied": _NEEDS_ROLE, "NotAuthorized": _NEEDS_ROLE,
    "ThrottlingException": _TOO_OFTEN, "Throttling": _TOO_OFTEN, "TooManyRequestsException": _TOO_OFTEN,
    "RequestLimitExceeded": _TOO_OFTEN, "LimitExceededException": _TOO_OFTEN,
    "InternalServiceError": _AWS_FAILS, "InternalServiceErrorException": _AWS_FAILS, "InternalFailure": _AWS_FAILS,
    "InternalServerError": _AWS_FAILS, "ServiceUnavailable": _AWS_FAILS, "ServiceUnavailableException": _AWS_FAILS,
    "ExpiredTokenException": _EXPIRED, "ExpiredToken": _EXPIRED,
    "InvalidSignatureException": _SIGNATURE, "SignatureDoesNotMatch": _SIGNATURE, "RequestExpired": _SIGNATURE,
    "RequestTimeTooSkewed": _SIGNATURE, "IncompleteSignature": _SIGNATURE, "IncompleteSignatureException": _SIGNATURE,
    "UnrecognizedClientException": _UNKNOWN_KEY, "InvalidClientTokenId": _UNKNOWN_KEY,
    "MissingAuthenticationToken": _UNKNOWN_KEY, "MissingAuthenticationTokenException": _UNKNOWN_KEY,
    "DecryptionFailure": _DECRYPTION, "KMSAccessDeniedException": _DECRYPTION, "KMSDisabledException": _DECRYPTION,
    "InvalidParameterException": _NAME, "ValidationException": _NAME, "ValidationError": _NAME,
}  # fmt: skip


def open_store(region: str, prefix: str, endpoint_url: str | None) -> SecretStore:
    """Return the store, with the session that AWS's own libraries would create."""
    return AwsSecretStore(get_session(), region, prefix, endpoint_url)


class AwsSecretStore:
    """Reads the name `a/b` as the secret `<prefix>a/b`, and `a/b#key` as the text under `key` of the JSON object there.

    Credentials come from the places that AWS's own libraries read: environment, shared files, the pod's or the
    instance's role.
    """

    scheme = "aws"

    def __init__(
        self,
        session: AioSession,
        region: str,
        prefix: str = "",
        endpoint_url: str | None = None,
        timeout_seconds: float = STORE_TIMEOUT_SECONDS,
    ) -> None:
        self._session = session
        self._region = region
        self._prefix = prefix
        self._endpoint_url = endpoint_url
        self._timeout = timeout_seconds
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None  # aiobotocore creates a client's class at run time

    async def get(self, name: str) -> Secret:
        """Return the secret; see SecretStore.get."""
        reference = SecretReference.parse(name)
        secret_id = f"{self._prefix}{reference.path}"
        async with answer_within(self._timeout, self.scheme):
            answer = await self._fetch(secret_id)
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise SecretNotFound(f"the AWS secret '{secret_id}' holds bytes instead of text")
        value = (text if reference.field is None else _json_field(secret_id, text, reference.field)).strip()
        if not value:
            raise SecretNotFound(f"the AWS secret '{secret_id}' is empty")
        return Secret(name, value)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _fetch(self, secret_id: str) -> dict[str, Any]:
        try:
            client = await self._open()
            answer: dict[str, Any] = await client.get_secret_value(SecretId=secret_id)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _MISSING:
                raise SecretNotFound(
                    f"AWS has no secret '{secret_id}' in {self._region}, or it is being deleted ({code}); create it"
                ) from None
            why = _BY_CODE.get(code, "its error code is all that is known")
            raise SecretStoreUnavailable(
                f"AWS Secrets Manager does not give '{secret_id}' in {self._region} ({code}); {why}"
            ) from None
        except BotoCoreError as error:
            raise SecretStoreUnavailable(f"AWS Secrets Manager in {self._region}: {_why(error)}") from None
        return answer

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                context = self._session.create_client(
                    "secretsmanager", region_name=self._region, endpoint_url=self._endpoint_url, config=_CONFIG
                )
                self._client = await self._stack.enter_async_context(context)
        return self._client


def _why(error: BotoCoreError) -> str:
    """Return why there was no response. botocore's own texts may hold what a credential helper printed."""
    if isinstance(error, HTTPClientError | BotoConnectionError):
        return str(server_failure(error, "PLATFORM_AWS_ENDPOINT_URL, or PLATFORM_AWS_REGION,", "AWS_CA_BUNDLE"))
    kind = type(error).__name__
    if "Cred" in kind or "Token" in kind:
        return (
            f"no credentials can be used ({kind}); give the pod or the instance a role, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    return f"its client cannot be set up ({kind}); check the AWS_ variables and the files that they name"


def _json_field(secret_id: str, text: str, field: str) -> str:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    value = parsed.get(field) if isinstance(parsed, dict) else None
    if not isinstance(value, str):
        raise SecretNotFound(f"the AWS secret '{secret_id}' is not a JSON object with a text under '{field}'")
    return value
