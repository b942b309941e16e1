"""Why a provider cannot be reached, for operators; callers only see that it cannot."""

from platform_app.connection_failures import Failure, server_failure
from platform_app.llm.http.transport.errors import ConnectTimeout, IncompleteResponse, ProtocolError, ProxyRefused

SETTING = "base_url"
PROXY_SETTING = "base_url or in the proxy's URL"
_CAS = "PLATFORM_CA_BUNDLE"


def provider_failure(error: BaseException, setting: str = SETTING) -> Failure:
    """Return the cause of a failed call and the next step. `setting` holds the provider's address, or the proxy's."""
    match error:
        case ProxyRefused():
            return Failure(str(error), "see the proxy's log, and the credential in its URL")
        case ProtocolError():
            return Failure("its response is not HTTP", f"check the scheme and the port in {setting}", passes=False)
        case IncompleteResponse():
            return Failure("it closed the connection within the response", "see its log")
        case ConnectTimeout():
            return server_failure(TimeoutError(), setting, _CAS)
        case UnicodeError():
            return Failure("its host name is not valid", f"correct the host in {setting}", passes=False)
    return server_failure(error, setting, _CAS)
