"""The simulator's HTTP server: a provider on a real socket, in four wire formats, with faults that a request
selects."""

import asyncio
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from apps.provider_simulator.admin import administer
from apps.provider_simulator.endpoints import Endpoint, RefusedError, endpoint_of
from apps.provider_simulator.faults.catalog import (
    FAULT_HEADER,
    ScriptedFault,
    UnknownFaultError,
    fault_of_header,
    fault_of_model,
)
from apps.provider_simulator.faults.faults import DroppedError, Exchange, misbehave
from apps.provider_simulator.faults.switch import FaultSwitch
from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.formats.wire import Problem, Wire
from apps.provider_simulator.model.simulated_model import InvalidRequestError
from apps.provider_simulator.record import Entry, FinalOutcome, Ledger, Outcome, RequestRecord

MAX_BODY_BYTES = 64 * 1024 * 1024
GRACE_SECONDS = 0.25


class ProviderSimulator:
    """A provider with scripted faults; use it as an async context manager.

    With `api_key`, any other key gets a 401; without it every non-empty key is accepted. Port 0 selects a free port.
    Bodies above 64 MiB get a plain 413.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, api_key: str | None = None) -> None:
        self._host = host
        self._port = port
        self._api_key = api_key
        self._ledger = Ledger()
        self._switch = FaultSwitch()
        self._stored = ResponseStore()
        self._runner: web.ServerRunner | None = None
        self._refused: socket.socket | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: the address cannot be bound.
        """
        self._closing = False
        server = web.Server(
            self._handle,
            request_factory=self._request,
            # A client's disconnect cancels the handler at once, whatever it awaits.
            handler_cancellation=True,
            access_log=None,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=GRACE_SECONDS)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self._host, self._port, reuse_address=True, backlog=1024).start()
            self._port = self._runner.addresses[0][1]
            self._refused = _bound_socket(self._host)
        except OSError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop listening, give requests in flight a quarter of a second, then abort them."""
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._refused is not None:
            self._refused.close()
            self._refused = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL for OpenAI's clients, including `/v1`."""
        return f"{_origin(self._host, self._port)}/v1"

    @property
    def azure_url(self) -> str:
        """The endpoint for clients of Azure OpenAI, without a path."""
        return _origin(self._host, self._port)

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's clients, which send requests to `/v1/messages` below it."""
        return f"{_origin(self._host, self._port)}/anthropic"

    @property
    def admin_url(self) -> str:
        """The root of the admin endpoints."""
        return f"{_origin(self._host, self._port)}/_sim"

    @property
    def refused_port(self) -> int:
        """A port that refuses connections, reserved while the simulator runs."""
        if self._refused is None:
            raise RuntimeError("the simulator is not running")
        port: int = self._refused.getsockname()[1]
        return port

    @property
    def refused_url(self) -> str:
        """A base URL whose connections are refused."""
        return f"{_origin(self._host, self.refused_port)}/v1"

    def requests(self, model: str | None = None) -> list[RequestRecord]:
        """Return the last thousand records, oldest first, of one model or of all."""
        return self._ledger.requests(model)

    def stats(self) -> dict[str, dict[str, int]]:
        """The counters by model name."""
        return self._ledger.stats()

    def count(self, model: str) -> int:
        """How many requests named this model since the start or the last reset."""
        return self._ledger.count(model)

    def reset(self) -> None:
        """Clear every record, counter, attempt and stored response, and switch every fault off."""
        self._ledger.reset()
        self._stored.clear()
        self._switch.clear()

    async def wait_for_outcome(
        self,
        model: str,
        outcome: Outcome,
        timeout: float = 60.0,  # noqa: ASYNC109 - the error names the awaited outcome; asyncio.timeout cannot
    ) -> RequestRecord:
        """Wait until a request of the model has this outcome, and return the latest one.

        Raises:
            TimeoutError: no request had it within `timeout` seconds.
        """
        return await self._ledger.wait_for_outcome(model, outcome, timeout)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/_sim/"):
            return administer(request, self._ledger, self._switch, self._stored)
        started = time.monotonic()
        endpoint = endpoint_of(request, self._stored)
        try:
            raw = await request.read()
        except (asyncio.CancelledError, ConnectionError):
            self._ledger.finish(self._begin(request, endpoint, b"", {}, started), self._lost)
            raise
        body = _parsed(raw)
        entry = self._begin(request, endpoint, raw, body or {}, started)
        try:
            response = await self._respond(request, endpoint, entry, body)
            # Written here, not by aiohttp afterwards: "completed" must mean that the response was written.
            await response.prepare(request)
            await response.write_eof()
            entry.status = response.status
            self._ledger.finish(entry, "completed")
            return response
        except (asyncio.CancelledError, ConnectionError):
            self._ledger.finish(entry, self._lost)
            raise
        except DroppedError:
            if request.transport is not None:
                request.transport.abort()
            # Never sent: aiohttp requires a response from every handler.
            return web.Response()
        finally:
            if entry.outcome == "open":
                self._ledger.finish(entry, "aborted")

    @property
    def _lost(self) -> FinalOutcome:
        """Return the outcome of a request whose connection closed: by the client, unless the simulator is closing."""
        return "aborted" if self._closing else "client_closed"

    def _begin(
        self, request: web.BaseRequest, endpoint: Endpoint, raw: bytes, body: Mapping[str, object], started: float
    ) -> Entry:
        model = endpoint.model or body.get("model")
        return self._ledger.begin(
            path=request.path,
            model=model if isinstance(model, str) else "",
            stream=body.get("stream") is True and endpoint.streams,
            started=started,
            key=endpoint.wire.key(request.headers),
            headers=request.headers,
            body=raw,
        )

    async def _respond(
        self, request: web.BaseRequest, endpoint: Endpoint, entry: Entry, body: dict[str, object] | None
    ) -> web.StreamResponse:
        wire = endpoint.wire
        try:
            key = self._authenticate(request, wire)
            if request.method == "POST" and endpoint.model != "":
                body = _with_model(body, endpoint.model)
            answer = endpoint.build(body or {}, entry.serial)
            scripted = _scripted_fault(request, entry.model, self._switch)
        except InvalidRequestError as error:
            problem = Problem("invalid", message=error.message, param=error.param)
            return wire.refusal(problem).response(entry.id)
        except RefusedError as error:
            return wire.refusal(error.problem).response(entry.id)
        entry.fault = scripted.fault.name
        flaky_key = _flaky_key(request, body or {}, entry.model)
        return await misbehave(
            Exchange(
                wire=wire,
                request=request,
                request_id=entry.id,
                fault=scripted.fault.name,
                value=scripted.value,
                model=entry.model,
                key=key,
                stream=entry.stream,
                answer=answer,
                attempt=lambda: self._ledger.next_attempt(flaky_key),
            )
        )

    def _authenticate(self, request: web.BaseRequest, wire: Wire) -> str:
        key = wire.key(request.headers)
        if key is None:
            raise RefusedError(Problem("no-key"))
        if self._api_key is not None and key != self._api_key:
            raise RefusedError(Problem("unauthorized", key=key))
        return key


def _origin(host: str, port: int) -> str:
    """Return the URL of a server for this machine. A server on all interfaces is reached on the loopback address."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bound_socket(host: str) -> socket.socket:
    """Return a socket that is bound but does not listen, without SO_REUSEADDR, so that connecting gets ECONNREFUSED."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    bound.bind(address)
    return bound


def _parsed(raw: bytes) -> dict[str, object] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _with_model(body: dict[str, object] | None, model: str | None) -> dict[str, object]:
    if body is None:
        raise InvalidRequestError("We could not parse the JSON body of your request.")
    if model is not None:
        return {**body, "model": model}
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise InvalidRequestError("You must provide a model parameter.", "model")
    return body


def _scripted_fault(request: web.BaseRequest, model: str, switch: FaultSwitch) -> ScriptedFault:
    """Return the fault of the header, which takes precedence, or of the switch, or of the model name."""
    header = request.headers.get(FAULT_HEADER)
    try:
        return (switch.fault_of(model) or fault_of_model(model)) if header is None else fault_of_header(header)
    except UnknownFaultError as error:
        if header is not None:
            raise InvalidRequestError(str(error), FAULT_HEADER) from error
        raise RefusedError(Problem("not-found", model=model)) from error


def _flaky_key(request: web.BaseRequest, body: Mapping[str, object], model: str) -> str:
    named = request.headers.get("x-sim-key") or body.get("user")
    return f"key {named}" if named else f"model {model}"
