"""openai-agents, pydantic-ai, LangChain (sessions.py), npm's clients and the Vercel AI SDK (node/agents.mjs).

One process for all wires, since it takes longer to start than to run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway.process import Gateway
from tests.support.paths import ROOT
from tests.support.providers.client_models import WIRES
from tests.support.servers.node import PROJECT, run_node

pytestmark = pytest.mark.proof

NODE_TESTS_PER_WIRE, SESSIONS_PER_WIRE = 10, 3


def test_python_frameworks_run_their_sessions(clients_gateway: Gateway, client_key: str) -> None:
    """Each is pointed at the gateway by the environment alone."""
    url = clients_gateway.base_url
    environment = {
        **os.environ, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": client_key, "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": client_key, "WIRES": ",".join(WIRES),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.clients.frameworks.sessions"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^\w+ over \w+$", done.stdout, re.MULTILINE)) == SESSIONS_PER_WIRE * len(WIRES), done.stdout


def test_node_frameworks_pass_their_scenario(clients_gateway: Gateway, client_key: str, node_modules: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"], "BASE_URL": clients_gateway.base_url, "API_KEY": client_key,
        "WIRES": ",".join(WIRES),
    }  # fmt: skip
    output = run_node(PROJECT / "agents.mjs", environment, seconds=300)
    passed = re.search(r"pass (\d+)$", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) == NODE_TESTS_PER_WIRE * len(WIRES), output
