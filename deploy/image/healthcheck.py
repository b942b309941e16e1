#!/opt/flowbiz/bin/python -IS
"""Exit with code 0 if the gateway in this container is ready, otherwise with code 1 and the reason.

The image has no curl. `healthcheck /livez` asks whether the process responds at all. It imports nothing but `os`,
`socket` and `sys`, because it runs every ten seconds.
"""

import os
import socket
import sys

TIMEOUT_SECONDS = 4.0


def main(path: str) -> str | None:
    """Request the path; return what is wrong, or None."""
    host = os.environ.get("PLATFORM_HOST", "127.0.0.1")
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    port = os.environ.get("PLATFORM_PORT", "8100")
    if not port.isdecimal():
        port = "8100"  # a Kubernetes service link, tcp://…, which the gateway ignores too
    try:
        with socket.create_connection((own, int(port)), TIMEOUT_SECONDS) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: healthcheck\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            status_line = connection.makefile("rb").readline(256).decode("ascii", "replace").strip()
    except OSError as error:
        return f"{own}:{port}: {error}"
    return None if status_line.split(" ")[1:2] == ["200"] else f"{path}: {status_line or 'the connection was closed'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/readyz"))
