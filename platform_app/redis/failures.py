"""Why Redis failed: each error's cause and the next step, and which errors condemn a connection.

No text contains a name, an address or a credential.
"""

import re
from types import MappingProxyType

from redis.exceptions import AuthenticationError, InvalidResponse, MovedError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from platform_app.connection_failures import Failure, error_chain, lost, network_failure, tls_failure

SETTING = "PLATFORM_REDIS_URL"
IDEMPOTENCY_SETTING = "PLATFORM_IDEMPOTENCY_REDIS_URL (without it PLATFORM_REDIS_URL)"

REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""Every error of redis-py and of our client. RedisClusterException is not a RedisError."""

CONDEMNING = frozenset(
    {"READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "NOREPLICAS", "MISCONF", "NOAUTH", "WRONGPASS", "UNBLOCKED"}
)
"""Errors of the server or the session, not of the command: the name may lead to another server by now.

READONLY and UNBLOCKED: the server was demoted. NOREPLICAS: it is the old primary on the wrong side of a partition.
MASTERDOWN, LOADING, CLUSTERDOWN and MISCONF: it does not serve for now, and another one may. NOAUTH and WRONGPASS: the
session lost its user.

These do not condemn: NOPERM, because a changed ACL applies to open connections at once, and the server closes those of
a removed user. OOM and BUSY, because the server's memory or a script is at fault and every connection has the same
error. UNKILLABLE is a reply to SCRIPT KILL, which is never sent. MOVED, ASK and TRYAGAIN concern one slot.
"""

_CODE = re.compile(r"[A-Z]{3,}")
_INSIDE_SCRIPT = re.compile(r"(?:^|[\s:])-?([A-Z]{5,}) ")
"""Redis 6 wraps the error of a script's command: `ERR Error running script (…): @user_script:1: -READONLY …`."""

_BY_CODE = MappingProxyType(
    {
        "READONLY": ("it is a read-only replica", "let the host in {setting} lead to the primary"),
        "UNBLOCKED": ("it was demoted to a replica", "let the host in {setting} lead to the primary"),
        "MASTERDOWN": ("it is a replica whose primary is down", "let the host in {setting} lead to the primary"),
        "LOADING": ("it is loading its data", "wait; see its log"),
        "CLUSTERDOWN": ("its cluster does not serve all slots", "repair the cluster (CLUSTER INFO)"),
        "NOREPLICAS": (
            "it has too few replicas to accept writes",
            "start them, or lower min-replicas-to-write",
        ),
        "MISCONF": ("it cannot save to its disk and refuses writes", "free space on its disk; see its log"),
        "NOAUTH": ("it needs a password", "write user and password into {setting}"),
        "WRONGPASS": ("the user or the password is wrong", "correct user and password in {setting}"),
        "NOPERM": ("the user lacks a permission", "grant what docs/operations.md lists (Redis or Valkey)"),
        "DENIED": ("it is in protected mode", "give it a password, and write it into {setting}"),
        "OOM": ("its memory is full", "raise its maxmemory"),
        "BUSY": ("a script blocks it", "see its log; SCRIPT KILL ends the script"),
        "CROSSSLOT": ("it is a cluster", "set PLATFORM_REDIS_CLUSTER=true"),
        "NOPROTO": ("it does not support the protocol", "remove `protocol` from {setting}"),
    }
)
_BY_TEXT = (
    ("max number of clients", "it has too many connections", "raise its maxclients, or lower workers and replicas"),
    ("ACL failure", *_BY_CODE["NOPERM"]),
    ("cluster support disabled", "it is not a cluster", "set PLATFORM_REDIS_CLUSTER=false"),
    ("Cluster mode is not enabled", "it is not a cluster", "set PLATFORM_REDIS_CLUSTER=false"),
    ("DB index", "it has no database with this number", "correct the number at the end of {setting}"),
    ("SELECT is not allowed", "a cluster has database 0 only", "remove the number at the end of {setting}"),
    ("without any password configured", "it has no password", "remove the password from {setting}"),
    (
        "unknown command",
        "it lacks commands that the gateway needs",
        "use Redis or Valkey 7 or newer, not a Sentinel",
    ),
)


def error_code(error: BaseException) -> str | None:
    """Return the code of an error that the server sent, such as READONLY; None for any other failure."""
    if not isinstance(error, RedisError):
        return None
    code = getattr(error, "status_code", None)
    text = str(error)
    if not isinstance(code, str):
        found = _CODE.match(text)
        code = found.group() if found else None
    if code in (None, "ERR") and "script" in text and (inside := _INSIDE_SCRIPT.findall(text)):
        return next((each for each in inside if each in _BY_CODE), code)
    return code


def condemns_connection(error: BaseException) -> bool:
    """Return whether the connection that got this error is to be replaced, which looks the name up again."""
    return error_code(error) in CONDEMNING


def redis_failure(error: BaseException, setting: str = SETTING) -> Failure:
    """Return the cause of one of REDIS_ERRORS and the next step. `setting` names the server."""
    if (problem := tls_failure(error)) is not None:
        remedy = f"name its CA with PLATFORM_REDIS_CA_FILE, and the host name of its certificate in {setting}"
        if "TLS" in problem:
            remedy = f"check the port in {setting}; redis:// connects without TLS"
        return Failure(problem, remedy, passes=False)
    chain = list(error_chain(error))
    for each in chain:
        if (found := _by_response(each, setting)) is not None:
            return found
    if (found := network_failure(error, setting)) is not None:
        return found
    for each in chain:
        if isinstance(each, RedisTimeoutError):
            return network_failure(TimeoutError(), setting) or lost(setting)
        if isinstance(each, RedisConnectionError):
            return lost(setting)
    return Failure(f"it failed ({type(error).__name__})", f"check {setting}, and its log")


def _by_response(error: BaseException, setting: str) -> Failure | None:
    """Return the cause if this error came from the server."""
    if isinstance(error, InvalidResponse):
        return Failure(
            "it does not speak Redis's protocol on this port",
            f"check the port in {setting}; if it uses TLS there, write rediss://",
            passes=False,
        )
    if isinstance(error, MovedError):
        return Failure("it is a node of a cluster", "set PLATFORM_REDIS_CLUSTER=true", passes=False)
    if not isinstance(error, (RedisError, RedisClusterException)):
        return None
    text = str(error)
    code = error_code(error)
    if code is not None and code in _BY_CODE:
        cause, remedy = _BY_CODE[code]
        return Failure(cause, remedy.format(setting=setting))
    for part, cause, remedy in _BY_TEXT:
        if part in text:
            return Failure(cause, remedy.format(setting=setting))
    if isinstance(error, AuthenticationError):
        cause, remedy = _BY_CODE["WRONGPASS"]
        return Failure(cause, remedy.format(setting=setting))
    return None
