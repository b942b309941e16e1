"""What must hold behind any proxy, whatever the proxy refuses or rewrites: no response belongs to another request."""

import re
from collections.abc import Sequence

import h11

from tests.attacks.corpus.build import chat, prompt, sized
from tests.attacks.corpus.case import Case, Run, echo_of, fill, probe
from tests.attacks.raw_http import Address, RawConnection, Response

WINDOW_SECONDS = 1.0
"""How long an attacker waits for more. A response that comes later is not seen here; a victim would."""
_ID = re.compile(rb"atk-[0-9a-f]{12}-\w+")
_IDS_OF_REQUESTS = (*"12345678", "probe")
READ_BY_A_PROXY: set[str] = set()
"""Ids of hidden requests in bytes that a proxy may itself read as two requests, and hand over as two."""
_AMBIGUOUS = frozenset(
    {
        "cl-te",
        "cl-te-keyless",
        "cl-te-slow",
        "cl-te-prefix",
        "te-cl",
        "te-cl-slow",
        "te-cl-prefix",
        "garbage-both-framings-behind-chat",
        "garbage-both-framings-behind-probe",
    }
)


def attack(address: Address, case: Case, key: str, victim: "Victim | None" = None) -> list[str]:
    """Send a case through a proxy; return what was wrong with the responses.

    A victim comes as soon as the attacker has its first response: then the proxy may have given the connection back,
    while a hidden request is still being worked on.
    """
    faults: list[str] = []
    run = fill(case, key)
    if case.name in _AMBIGUOUS:
        READ_BY_A_PROXY.add(run.request_id("inner"))
    with RawConnection(address, case.methods, WINDOW_SECONDS) as connection:
        try:
            connection.send(run.data)
            if victim:
                connection.receive()
                faults += victim.chats(1)
            connection.send(probe(run))
            received = connection.until_closed()
        except TimeoutError:  # the proxy waits for more, or does not take all of it
            return faults + (victim.chats(1) if victim else [])
        except h11.RemoteProtocolError:
            # A proxy may respond to HTTP/0.9 with a bare body, or HTTP/2 with frames.
            return [f"{case.name}: {fault}" for fault in _ids_of_others(run, connection.reader.received)]
    return [f"{case.name}: {fault}" for fault in (*faults, *_foreign(run, received.responses))]


def _foreign(run: Run, responses: Sequence[Response]) -> list[str]:
    """Return a fault for each response that is not of a request of this run, or out of order."""
    faults = []
    ids = [run.request_id(name) for name in _IDS_OF_REQUESTS]
    for response in responses:
        own = response.request_id
        if own is None or not own.startswith("atk-") or own in READ_BY_A_PROXY:
            continue  # of the proxy itself, of a request without an id, or of one that the proxy found
        if own not in ids:
            faults.append(f"a response for {own}, which is another's or comes too late; status {response.status}")
            continue
        ids = ids[ids.index(own) + 1 :]
        faults.extend(_bodies_of_others(own, response))
    return faults


def _ids_of_others(run: Run, received: bytes) -> list[str]:
    others = [found.decode() for found in _ID.findall(received) if not found.startswith(run.token.encode())]
    return [f"the bytes hold {others}"] if others else []


def _bodies_of_others(own: str, response: Response) -> list[str]:
    others = {found.decode() for found in _ID.findall(response.body)} - {own}
    return [f"the response for {own} holds {sorted(others)}"] if others else []


class Victim:
    """A client that sends chats in order over one connection, and must get its own responses."""

    CASE = Case("victim", chat(prompt(), sized(prompt())))

    def __init__(self, address: Address, key: str) -> None:
        self._address = address
        self._key = key

    def chats(self, number: int) -> list[str]:
        """Send chats one after another; return what was wrong with the responses."""
        with RawConnection(self._address) as connection:
            return [fault for _ in range(number) for fault in self._chat(connection)]

    def _chat(self, connection: RawConnection) -> list[str]:
        run = fill(self.CASE, self._key)
        own = run.request_id("1")
        connection.send(run.data)
        try:
            response = connection.response()
        except Exception as error:  # noqa: BLE001 - a victim must get a response, whatever the reason that it does not
            return [f"victim {own}: no response: {type(error).__name__}: {error}"]
        if response.status != 200 or response.request_id != own or echo_of(own) not in response.body:
            return [f"victim {own}: {response.status} for {response.request_id}: {response.body[:100]!r}"]
        return _bodies_of_others(own, response)
