"""What the first process of a container inherits is reaped; the parent's own children are not."""

import os
import subprocess
import sys

SCRIPT = """
import ctypes, os, subprocess, sys, time
from apps.platform_cli.serve.orphans import reap_orphans

assert reap_orphans(set()) == 0
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process, as to the first one
own = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read(); sys.exit(5)"], stdin=subprocess.PIPE)
for _ in range(3):  # each leaves a child that ends after it
    subprocess.run([sys.executable, "-S", "-c", "import os; os.fork()"], check=True)
reaped = 0
while reaped < 3:
    reaped += reap_orphans({own.pid})
    time.sleep(0.01)
own.stdin.close()
os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
assert reap_orphans({own.pid}) == 0
assert own.wait() == 5
print("reaped", reaped)
"""


def test_orphans_are_reaped_and_own_children_are_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, env={**os.environ}, check=False
    )
    assert (done.stdout, done.stderr) == ("reaped 3\n", "")
