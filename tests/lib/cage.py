# SPDX-License-Identifier: Apache-2.0
"""A control group with a limit of memory, of cgroup version 1 or 2, whichever the machine has."""
import os
import signal
import subprocess
import sys

from cluster import wait_until

V1 = "/sys/fs/cgroup/memory"
V2 = "/sys/fs/cgroup"

# Enters a group, and takes memory there, a MiB at a time, until process PID has ended, or itself does.
HOG = """
import os, sys
pid, procs = sys.argv[1:]
open(procs, "w").write(str(os.getpid()))
held = []
while os.path.exists(f"/proc/{pid}"):
    held.append(bytearray(os.urandom(1)) * (1 << 20))
"""


def _put(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(text))


def _get(path):
    with open(path, encoding="ascii") as f:
        return f.read()


def lacks():
    """Why no limit can be had here, or None."""
    if os.path.exists(f"{V1}/memory.limit_in_bytes"):
        return None if os.access(V1, os.W_OK) else f"{V1} cannot be written"
    if not os.path.exists(f"{V2}/cgroup.controllers"):
        return f"neither {V1} nor cgroup 2 at {V2} is there"
    if "memory" not in _get(f"{V2}/cgroup.controllers").split():
        return f"{V2} has no memory controller"
    try:
        _put(f"{V2}/cgroup.subtree_control", "+memory")
    except OSError as e:
        return f"the memory controller of {V2} cannot be given to groups: {e}"
    return None


class Cage:
    def __init__(self, c, process):
        """The process of that name is started within it from now on."""
        self.first = os.path.exists(f"{V1}/memory.limit_in_bytes")
        self.path = os.path.join(V1 if self.first else V2, f"tidemark-{os.getpid()}-{process}")
        os.mkdir(self.path)
        c.undo.append(self.remove)
        self.procs = f"{self.path}/cgroup.procs"
        enter = ["sh", "-c", f'echo $$ > {self.procs} && exec "$@"', "sh"]
        c.wraps[process] = [*enter, *c.wraps.get(process, [])]

    def _file(self, first, second):
        return os.path.join(self.path, first if self.first else second)

    def used(self):
        return int(_get(self._file("memory.usage_in_bytes", "memory.current")))

    def limit(self, size):
        _put(self._file("memory.limit_in_bytes", "memory.max"), size)

    def killed(self):
        """How many processes the kernel has killed in it."""
        lines = _get(self._file("memory.oom_control", "memory.events")).splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def crowd(self, process):
        """Another process in it takes all memory, until the kernel kills the given one."""
        before = self.killed()
        _put(f"/proc/{process.child.pid}/oom_score_adj", 1000)  # before the other
        hog = subprocess.Popen([sys.executable, "-c", HOG, str(process.child.pid), self.procs],
                               stdin=subprocess.DEVNULL)
        try:
            wait_until("the kernel kills it for want of memory", 30, lambda:
                       self.killed() > before and process.child.poll() == -signal.SIGKILL)
        finally:
            hog.kill()
            hog.wait(10)

    def remove(self):
        try:
            os.rmdir(self.path)
        except OSError as e:
            print(f"{self.path} is left behind: {e}")
