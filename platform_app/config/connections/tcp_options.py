"""TCP keepalives of connections to PostgreSQL, by libpq's names."""

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_SECONDS = 32_767
"""Linux takes no longer times."""
_BOUNDS = {
    "keepalives": (0, 1),
    "keepalives_idle": (0, LONGEST_SECONDS),
    "keepalives_interval": (0, LONGEST_SECONDS),
    "keepalives_count": (0, 127),
    "tcp_user_timeout": (0, 3_600_000),
}


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """When TCP looks for a peer that sends nothing. The defaults are below what firewalls allow (4 minutes)."""

    keepalives: bool = True
    idle_seconds: int = 30
    interval_seconds: int = 10
    count: int = 3
    user_timeout_ms: int = 0
    """Longest time without an acknowledgement; 0: that of the system."""

    def apply(self, connected: Any) -> None:
        """Set the options of a socket. A system without one of them keeps its default; Unix sockets have none."""
        if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
            return
        options = {
            "TCP_KEEPIDLE": self.idle_seconds,
            "TCP_KEEPALIVE": self.idle_seconds,  # macOS
            "TCP_KEEPINTVL": self.interval_seconds,
            "TCP_KEEPCNT": self.count,
            "TCP_USER_TIMEOUT": self.user_timeout_ms,
        }
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(self.keepalives))
        for name, value in options.items():
            if value and hasattr(socket, name):
                with contextlib.suppress(OSError):
                    connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tcp_options(parameters: Mapping[str, str], problems: list[str]) -> TcpOptions:
    """Return the options of a URL's parameters; 0 asks for the default, as with libpq."""
    numbers: dict[str, int] = {}
    for name, (least, most) in _BOUNDS.items():
        text = parameters.get(name)
        if text is None:
            continue
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len("3600000") else most + 1
        if number > most:
            problems.append(f"{name} must be a whole number from {least} to {most}")
        numbers[name] = number
    default = TcpOptions()
    return TcpOptions(
        keepalives=bool(numbers.get("keepalives", 1)),
        idle_seconds=numbers.get("keepalives_idle") or default.idle_seconds,
        interval_seconds=numbers.get("keepalives_interval") or default.interval_seconds,
        count=numbers.get("keepalives_count") or default.count,
        user_timeout_ms=numbers.get("tcp_user_timeout", 0),
    )
