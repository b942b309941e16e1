"""The HTTP client for providers: timeouts, size limits, and one of our errors for every failure.

docs/adr/0014-our-own-http-client.md says why it uses neither a provider's package nor aiohttp, with figures.
"""

from collections.abc import Callable, Mapping

import orjson

from platform_app.errors import PlatformError, ProviderNotConfigured, ProviderRejectedRequest
from platform_app.llm import errors
from platform_app.llm.http.response import ProviderLimits, ProviderResponse, translate
from platform_app.llm.http.timeouts import CallTimeouts
from platform_app.llm.http.transport.errors import TransportError
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.response_stream import Headers, ResponseStream
from platform_app.llm.http.transport.target import header_lines, request_head, target_of
from platform_app.llm.http.transport.tls import ClientCertificate
from platform_app.observability.logs.known_secrets import mask_known_secrets
from platform_app.observability.record import AttemptRecord

# Responses are small, and an uncompressed one cannot be a decompression bomb.
_HEADERS = {"User-Agent": "flowbiz-platform", "Accept": "*/*", "Accept-Encoding": "identity"}
_REQUEST_IDS = (b"x-request-id", b"request-id", b"apim-request-id", b"x-ms-request-id", b"cf-ray")
"""Headers with the provider's id of a request: OpenAI's, Anthropic's, Azure's two, and that of a proxy before them."""
_MAX_REQUEST_ID = 128
ErrorOf = Callable[[int, Mapping[str, str], bytes], PlatformError]
"""A wire format's error table: takes the status, the headers (names in lower case) and the start of the body."""


class UnexpectedStatus(Exception):
    """The status of an error response. It is the cause of the error that `get` raises."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ProviderHttp:
    """Sends the requests of one provider. It does not close the pool, which all providers share."""

    def __init__(
        self,
        pool: ConnectionPool,
        limits: ProviderLimits,
        headers: Mapping[str, str],
        error_of: ErrorOf,
        client: ClientCertificate | None = None,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._error_of = error_of
        self._client = client
        ours = {name.lower() for name in headers}
        defaults = {name: value for name, value in _HEADERS.items() if name.lower() not in ours}
        self._headers = header_lines({**defaults, **headers})
        self._json_headers = self._headers + b"Content-Type: application/json\r\n"

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, object],
        seconds: float,
        record: AttemptRecord | None = None,
    ) -> ProviderResponse:
        """Send a POST and return its response, which has a status from 200 to 299 and an unread body. The caller closes
        it. The whole call, reading included, has `seconds`. The record gets the server, the status and the provider's
        request id.

        Raises:
            ProviderFailed, RequestRefused: the request failed, or the status is another.
        """
        try:
            content = orjson.dumps(body)
        except orjson.JSONEncodeError:  # a translated request with texts that contain JSON
            why = "the request is nested too deeply, or holds an integer of more than 64 bits"
            raise errors.make_error(ProviderRejectedRequest, why) from None
        head = self._json_headers + _lines(headers)
        if record is not None:
            record.server = target_of(url, self._client).host.decode()
        stream, timeouts = await self._send(b"POST", url, head, content, seconds, record)
        if record is not None:
            record.status, record.upstream_request_id = stream.status, _request_id(stream.headers)
        response = ProviderResponse(stream, self._limits, timeouts, record)
        if 200 <= stream.status < 300:  # some servers and proxies send another; the body decides
            return response
        raise self._error_of(stream.status, response.headers, await response.read_error())

    async def get(self, url: str, headers: Mapping[str, str], seconds: float, *, delete: bool = False) -> bytes | None:
        """Send a GET, or with `delete` a DELETE, and return the body of a response with status 200 to 299, or None for
        a 404.

        Raises:
            ProviderFailed, RequestRefused: like `post`. The cause is the TransportError, the TimeoutError or, for any
                other status, an UnexpectedStatus.
        """
        method = b"DELETE" if delete else b"GET"
        stream, timeouts = await self._send(method, url, self._headers + _lines(headers), None, seconds)
        status = stream.status
        if status == 404:
            stream.close()
            return None
        response = ProviderResponse(stream, self._limits, timeouts)
        if 200 <= status < 300:
            return await response.read_body()
        error = self._error_of(status, response.headers, await response.read_error())
        raise error from UnexpectedStatus(status)

    async def _send(
        self,
        method: bytes,
        url: str,
        headers: bytes,
        body: bytes | None,
        seconds: float,
        record: AttemptRecord | None = None,
    ) -> tuple[ResponseStream, CallTimeouts]:
        """Send a request and wait for the head of its response."""
        if seconds <= 0:
            raise errors.timed_out("no time was left to send the request")
        target = target_of(url, self._client)
        head = request_head(method, target, headers, None if body is None else len(body))
        timeouts = CallTimeouts(self._limits.idle_timeout_seconds, seconds)
        until = timeouts.next_deadline()
        connect_until = min(until, timeouts.started + self._limits.connect_timeout_seconds)
        stream = None
        try:
            stream = await self._pool.send(target.address, head, body or b"", connect_until)
            if record is not None:
                record.request_sent = True
            await stream.head(until)
        except BaseException as error:
            if stream is not None:
                stream.close()
            if isinstance(error, TransportError | TimeoutError):
                raise translate(error, self._limits, timeouts) from error
            raise
        return stream, timeouts


def _request_id(headers: Headers) -> str | None:
    for name in _REQUEST_IDS:
        if value := headers.get(name):
            # Log line, ledger and span have it, and a provider may echo the credential.
            text = mask_known_secrets(value)[:_MAX_REQUEST_ID].decode("latin-1")
            return text if text.isprintable() else None
    return None


def _lines(headers: Mapping[str, str]) -> bytes:
    """Return the lines of the headers. Raises ProviderNotConfigured if the credential cannot be sent."""
    try:
        return header_lines(headers)
    except ValueError:
        raise ProviderNotConfigured(
            "The credential of this model's provider has a character that headers cannot have. Contact your operator."
        ) from None
