"""An attack as data: what is sent, which responses must come back, and how they are judged."""

import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from platform_app.auth.tokens import generate_token
from tests.attacks.raw_http import Address, Exchange, Response, exchange, split

CHAT = "/v1/platform/chat"
TOKEN = "atk-000000000000"
"""Stands in a template for what makes the ids of one run unique, and is as long, so that lengths stay right."""
KEY_TEXT = "K" * len(generate_token("test").text)
"""Stands in a template for a good key, and is as long."""


def echo_of(request_id: str) -> bytes:
    """What the prompt of a request says, and so what its response repeats, apart from the id that every body holds."""
    return f"say {request_id} again".encode()


_FORM = "the form of the refusal:"
_REFUSED = frozenset({400, 404, 405, 413, 414, 417, 431, 501, 505})


@dataclass(frozen=True, slots=True)
class Reply:
    """One response that a separate request must get.

    `name` is the request's id in the template: the response must carry it as X-Request-ID, unless `anonymous`. With
    `echo` the body must hold what the prompt said (`echo_of`), as the simulator repeats it. With `may_continue` one 100
    may precede it.
    """

    name: str = "1"
    statuses: frozenset[int] = frozenset({200})
    echo: bool = False
    anonymous: bool = False
    may_continue: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes of a client, and the responses that it must get.

    In `data`, `KEY_TEXT` becomes a good key, and `TOKEN` becomes a text that is unique to one run. `TOKEN-1`, `TOKEN-2`
    and so on are ids of requests. `TOKEN-inner` is the id of a request that hides in another's bytes: no response may
    carry it.

    `refused`: behind the responses to `replies` comes one refusal of ours (a JSON error and `connection: close`) with a
    status of `refusals`, and the connection ends. Otherwise the connection stays open, and a later probe gets its
    response, unless `ends` says that the request asked for the end. None: the server may do either, as after a body
    that it did not want.
    """

    name: str
    data: bytes
    replies: Sequence[Reply] = ()
    refused: bool = False
    refusals: frozenset[int] = _REFUSED
    or_refused: bool = False
    """Refusing it is as good."""
    ends: bool | None = False
    methods: Sequence[str] = ()
    """The methods of the requests, where one of them is HEAD."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case: the bytes with ids filled in."""

    case: Case
    token: str
    data: bytes

    def request_id(self, name: str) -> str:
        """The id that stands for a name in the template."""
        return f"{self.token}-{name}"


@dataclass(slots=True)
class Judgement:
    """What was wrong with the responses; nothing if `faults` is empty."""

    faults: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything was as demanded."""
        return not self.faults


def fill(case: Case, key: str) -> Run:
    """Put a key and fresh ids into a case."""
    token = f"atk-{secrets.token_hex(6)}"
    return Run(case, token, case.data.replace(KEY_TEXT.encode(), key.encode()).replace(TOKEN.encode(), token.encode()))


def probe(run: Run) -> bytes:
    """A request behind the attack, which ends the connection in order."""
    return (
        f"GET /livez HTTP/1.1\r\nHost: gateway\r\nX-Request-ID: {run.request_id('probe')}\r\nConnection: close\r\n\r\n"
    ).encode()


def run_case(
    address: Address,
    case: Case,
    key: str,
    seed: int | None = None,
    timeout: float = 30.0,
    *,
    our_refusals: bool = True,
) -> Judgement:
    """Send a case over a separate connection and judge what comes back. With a seed it is sent in random chunks.

    Without `our_refusals` a refusal may have any body and headers, as another server's.
    """
    run = fill(case, key)
    data = run.data + probe(run)
    chunks = [data] if seed is None else split(data, random.Random(seed))
    try:
        received = exchange(address, chunks, methods=case.methods, timeout=timeout)
    except Exception as error:  # noqa: BLE001 - whatever the parser says about the response is the finding
        return Judgement([f"the response is not strictly HTTP/1.1: {type(error).__name__}: {error}"])
    return judge(run, received, our_refusals=our_refusals)


def judge(run: Run, received: Exchange, *, our_refusals: bool = True) -> Judgement:
    """Compare responses with what the case demands."""
    judgement = _judge(run, received)
    if not our_refusals:
        judgement.faults = [fault for fault in judgement.faults if not fault.startswith(_FORM)]
    return judgement


def _judge(run: Run, received: Exchange) -> Judgement:
    case = run.case
    judgement = Judgement()
    if case.refused:
        _compare(run, received, case.replies, judgement, refused=True)
        return judgement
    _compare(run, received, case.replies, judgement, refused=False)
    if judgement.faults and case.or_refused:
        refusal = Judgement()
        _compare(run, received, (), refusal, refused=True)
        if all(fault.startswith(_FORM) for fault in refusal.faults):
            return refusal
    return judgement


def _compare(run: Run, received: Exchange, replies: Sequence[Reply], judgement: Judgement, *, refused: bool) -> None:
    faults = judgement.faults
    responses = list(received.responses)
    if not received.closed:
        faults.append("the connection was still open at the deadline")
    if received.rest:
        faults.append(f"bytes that are no whole response: {received.rest[:80]!r}")
    expects_probe = not refused and not run.case.ends
    if run.case.ends is None and not refused:
        expects_probe = len(responses) > len(replies)
    expected = len(replies) + refused + expects_probe
    if len(responses) != expected:
        faults.append(f"{len(responses)} responses ({[each.status for each in responses]}), not {expected}")
        return
    for reply, response in zip(replies, responses, strict=False):
        faults.extend(_faults_of(run, reply, response))
    if refused:
        faults.extend(_faults_of_refusal(run, responses[-1]))
    if expects_probe:
        faults.extend(_faults_of(run, Reply("probe"), responses[-1]))


def _faults_of(run: Run, reply: Reply, response: Response) -> list[str]:
    faults = []
    wanted = run.request_id(reply.name)
    if response.status not in reply.statuses:
        faults.append(f"request {reply.name}: status {response.status}, not {sorted(reply.statuses)}")
    if response.request_id != wanted and not (reply.anonymous and response.request_id is not None):
        faults.append(f"request {reply.name}: X-Request-ID {response.request_id!r}, not {wanted!r}")
    if reply.anonymous and run.token in (response.request_id or ""):
        faults.append(f"request {reply.name}: X-Request-ID {response.request_id!r} is of another request")
    if reply.echo and echo_of(wanted) not in response.body:
        faults.append(f"request {reply.name}: the body is not its own: {response.body[:120]!r}")
    if response.interim not in ((), (100,) if reply.may_continue else ()):
        faults.append(f"request {reply.name}: unexpected 1xx {response.interim}")
    return faults


def _faults_of_refusal(run: Run, response: Response) -> list[str]:
    faults = []
    if response.status not in run.case.refusals:
        faults.append(f"refused with {response.status}, not one of {sorted(run.case.refusals)}")
    if (response.header("connection") or "").lower() != "close":
        faults.append(f"{_FORM} lacks `connection: close`")
    try:
        error = json.loads(response.body)["error"]
        if not isinstance(error["code"], str) or not isinstance(error["message"], str):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        faults.append(f"{_FORM} is no JSON error of ours: {response.body[:80]!r}")
    if run.request_id("inner") in str(response.headers):
        faults.append("the refusal carries the id of the hidden request")
    return faults
