"""A receiver of Alertmanager's webhooks, and what they said: which alerts were sent, when, and to which receiver."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

DEADMAN = "Watchdog"
"""The alert that always fires, so that its absence says that alerting is broken."""
DEADMAN_RECEIVER = "deadman"
_TO_SECONDS = len("2026-11-27T12:00:00")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert with all its labels."""

    labels: Mapping[str, str]
    fingerprint: str
    starts_at: str
    inhibited: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The fingerprint and the second of its start: the same alert can fire again later."""
        return self.fingerprint, self.starts_at[:_TO_SECONDS]

    @property
    def name(self) -> str:
        """The alert's name."""
        return self.labels["alertname"]

    @property
    def title(self) -> str:
        """The name, and the window where an alert has several."""
        window = self.labels.get("window")
        return f"{self.name} ({window})" if window else self.name

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether this is the alert of that name, with at least these labels."""
        return self.name == name and labels.items() <= self.labels.items()


@dataclass(frozen=True, slots=True)
class Notification:
    """One alert in one notification. The time is in seconds of the monotonic clock."""

    at: float
    receiver: str
    firing: bool
    alert: Alert


@dataclass
class Notifications:
    """What Alertmanager has sent."""

    _all: list[Notification] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, payload: Mapping[str, Any]) -> None:
        """Note one webhook: a group of alerts, each firing or resolved."""
        now = time.monotonic()
        with self._lock:
            self._all += [
                Notification(
                    now,
                    payload["receiver"],
                    each["status"] == "firing",
                    Alert(each["labels"], each["fingerprint"], each["startsAt"]),
                )
                for each in payload["alerts"]
            ]

    def firing_since(self) -> Mapping[tuple[str, str], float]:
        """Return when each alert was sent as firing for the first time, by its key."""
        first: dict[tuple[str, str], float] = {}
        for each in self._copy():
            if each.firing:
                first.setdefault(each.alert.key, each.at)
        return first

    def fired_since(self, moment: float) -> Sequence[Alert]:
        """Return the alerts that were sent for the first time after the moment, without the deadman's switch."""
        first: dict[tuple[str, str], Notification] = {}
        for each in self._copy():
            if each.firing and each.alert.name != DEADMAN:
                first.setdefault(each.alert.key, each)
        return [each.alert for each in first.values() if each.at >= moment]

    def sent_since(self, moment: float) -> Sequence[Notification]:
        """Return all notifications after the moment."""
        return [each for each in self._copy() if each.at >= moment]

    def not_resolved(self) -> Sequence[Alert]:
        """Return the alerts whose last notification says that they fire."""
        last = {each.alert.fingerprint: each for each in self._copy()}
        return [each.alert for each in last.values() if each.firing]

    def resolved_at(self, name: str, labels: Mapping[str, str], since: float) -> float | None:
        """Return when the last matching alert was sent as resolved after the moment."""
        sent = [each.at for each in self.sent_since(since) if not each.firing and each.alert.matches(name, labels)]
        return max(sent, default=None)

    def deadman_times(self) -> Sequence[float]:
        """Return when the deadman's switch was sent to its receiver."""
        return [each.at for each in self._copy() if each.alert.name == DEADMAN and each.receiver == DEADMAN_RECEIVER]

    def _copy(self) -> Sequence[Notification]:
        with self._lock:
            return list(self._all)


class PostReceiver:
    """A small HTTP server in a thread that accepts every POST and passes its body to a callback."""

    def __init__(self, port: int, on_post: "PostCallback") -> None:
        self.port = port
        self._on_post = on_post
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; also again after `stop`, on the same port."""
        on_post = self._on_post

        class Handler(BaseHTTPRequestHandler):
            """Reads the body, and responds with 200 and an empty body."""

            def do_POST(self) -> None:
                """Receive one request."""
                on_post(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class PostCallback:
    """The base of what a receiver does with a body: nothing."""

    def __call__(self, body: bytes) -> None:
        """Receive one body."""


class WebhookCallback(PostCallback):
    """Records Alertmanager's webhooks."""

    def __init__(self, sent: Notifications) -> None:
        self._sent = sent

    def __call__(self, body: bytes) -> None:
        """Record one webhook."""
        self._sent.record(json.loads(body))
