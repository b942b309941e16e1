"""The process that holds a port is found by the port, as long as it listens."""

import os
import socket

from apps.platform_cli.serve.port_holder import port_holder


def test_port_holder_names_the_listening_process() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert port_holder(port) is None
        listening.listen()
        holder = port_holder(port)
    assert holder is not None
    assert holder.startswith(f"pid {os.getpid()} (")
