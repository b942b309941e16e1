"""Sign the ids of a caller's stored responses with the live peppers."""

from collections.abc import Callable

from apps.platform_api.responses.stored.ids import StoredId, owner_digest, sign_id
from platform_app.auth.authenticator import PepperSource
from platform_app.auth.caller import Caller
from platform_app.auth.pepper import Peppers
from platform_app.chat import ChatResult
from platform_app.errors import AuthUnavailable, SecretError

RETRY_AFTER_SECONDS = 1.0


async def live_peppers(source: PepperSource) -> Peppers:
    """Return the live peppers. Raises AuthUnavailable if their secret cannot be read."""
    try:
        return await source.current()
    except SecretError:
        raise AuthUnavailable(
            "The ids of stored responses cannot be verified right now. Try again shortly.",
            retry_after=RETRY_AFTER_SECONDS,
        ) from None


def signer(caller: Caller, peppers: Peppers) -> Callable[[ChatResult], Callable[[str], str]]:
    """Return a function that takes a result, and returns the function that signs the provider's ids of its stored
    response."""
    owner = owner_digest(caller.owner)

    def sign_for(result: ChatResult) -> Callable[[str], str]:
        return lambda response_id: sign_id(
            StoredId(
                owner, result.model, result.provider, result.upstream_model, response_id, result.conversation_tokens
            ),
            peppers,
        )

    return sign_for
