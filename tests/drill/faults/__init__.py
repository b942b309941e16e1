"""Each fault of the drill: how it begins and ends, which alerts must fire, and what their runbooks must show.

fault.py        what a fault is, and actions that repeat until it ends
providers.py    a provider, or one model of it, fails, is slow, or refuses the credential
stores.py       Redis is frozen, PostgreSQL is stopped, the disk of the spool is full
processes.py    workers die or hang, an event loop is blocked, the gateway is stopped
operators.py    the config file is broken, the collector is down, a client sends invalid keys
"""

from tests.drill.faults.operators import OPERATORS
from tests.drill.faults.processes import PROCESSES
from tests.drill.faults.providers import PROVIDERS
from tests.drill.faults.stores import STORES

FAULTS = {fault.name: fault for fault in (*PROVIDERS, *STORES, *OPERATORS, *PROCESSES)}
"""All faults by name, in the order of the drill."""
