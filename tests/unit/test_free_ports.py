"""Tests get ports that no other run on the machine gets."""

import subprocess
import sys

from tests.support.paths import ROOT

SHOW_A_PORT_AND_STAY = """
from tests.support.servers.network.ports import free_port
print(free_port(), flush=True)
input()
"""


def test_processes_have_different_ports() -> None:
    command = [sys.executable, "-c", SHOW_A_PORT_AND_STAY]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    ports = [int(process.stdout.readline()) for process in started if process.stdout is not None]
    for process in started:
        process.communicate("\n", timeout=300)
    assert len({port // 500 for port in ports}) == len(started)
