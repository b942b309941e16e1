"""A receiver of Alertmanager's webhooks: which alerts fire now, and which have fired since a moment."""

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


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert with all its labels."""

    labels: Mapping[str, str]

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


@dataclass
class AlertLog:
    """What Alertmanager has sent. Times are seconds of the monotonic clock."""

    _firing: dict[str, tuple[float, Alert]] = field(default_factory=dict)
    _fired: list[tuple[float, Alert]] = field(default_factory=list)
    _resolved: list[tuple[float, Alert]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, payload: Mapping[str, Any]) -> None:
        """Note one webhook: a group of alerts, each firing or resolved."""
        now = time.monotonic()
        with self._lock:
            for each in payload["alerts"]:
                key, alert = each["fingerprint"], Alert(each["labels"])
                if each["status"] == "firing":
                    if key not in self._firing:
                        self._fired.append((now, alert))
                        self._firing[key] = (now, alert)
                elif self._firing.pop(key, None) is not None:
                    self._resolved.append((now, alert))

    def firing(self) -> Sequence[Alert]:
        """Return the alerts that fire now, without the deadman's switch."""
        with self._lock:
            return [alert for _, alert in self._firing.values() if alert.name != DEADMAN]

    def find(self, name: str, labels: Mapping[str, str]) -> tuple[float, Alert] | None:
        """Return the first alert that fires now and matches, and when it began to fire."""
        with self._lock:
            found = [each for each in self._firing.values() if each[1].matches(name, labels)]
        return min(found, key=lambda each: each[0], default=None)

    def resolved_at(self, name: str, labels: Mapping[str, str]) -> float:
        """Return when the last alert that matches was resolved."""
        with self._lock:
            return max(at for at, alert in self._resolved if alert.matches(name, labels))

    def fired_since(self, moment: float) -> Sequence[Alert]:
        """Return the alerts that began to fire after the moment, in order, without the deadman's switch."""
        with self._lock:
            return [alert for at, alert in self._fired if at >= moment and alert.name != DEADMAN]

    def deadman_fires(self) -> bool:
        """Return whether the deadman's switch fires, as it must while nothing is broken."""
        with self._lock:
            return any(alert.name == DEADMAN for _, alert in self._firing.values())


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

    def __init__(self, log: AlertLog) -> None:
        self._log = log

    def __call__(self, body: bytes) -> None:
        """Record one webhook."""
        self._log.record(json.loads(body))
