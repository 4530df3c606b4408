# SPDX-License-Identifier: Apache-2.0
"""A cluster whose machines are network namespaces: one for the coordinator and one for each
participant (and others that a test wants), each with a veth into a bridge that lies in a namespace of its own. What crosses the
bridge can be cut, one way or both. Needs root, iproute2 and nftables."""
import os
import subprocess
import sys

from cluster import Cluster, Failed

NET = "10.77.0"


def _do(*arguments):
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=20, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(arguments)}: {done.stderr.strip()}")


class NetCluster(Cluster):
    def __init__(self, members, disks=("data",), machines=(), **options):
        self.spaces = []
        self.prefix = f"tidemark-{os.getpid()}"
        self.addresses = {"coordinator": f"{NET}.10"}
        self.addresses.update((m, f"{NET}.{11 + i}") for i, m in enumerate([*members, *machines]))
        try:
            self._machines()
            super().__init__(members, disks, net=NET, **options)
        except BaseException:
            self._remove()
            raise

    def _machines(self):
        self.switch = self._space("switch")
        _do("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        _do("ip", "-n", self.switch, "link", "set", "br0", "up")
        self._nft("add table bridge cut")
        self._nft("add chain bridge cut forward { type filter hook forward priority 0; }")
        for i, (name, address) in enumerate(self.addresses.items()):
            space = self._space(name)
            _do("ip", "-n", self.switch, "link", "add", f"to{i}", "type", "veth", "peer", "name",
                "eth0", "netns", space)
            _do("ip", "-n", self.switch, "link", "set", f"to{i}", "master", "br0", "up")
            _do("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                _do("ip", "-n", space, "link", "set", link, "up")

    def _space(self, name):
        space = f"{self.prefix}-{name}"
        _do("ip", "netns", "add", space)
        self.spaces.append(space)
        return space

    def _nft(self, command):
        _do("ip", "netns", "exec", self.switch, "nft", command)

    def spawn(self, name, arguments):
        """What is named after a machine runs there; taps have no network. Not by `ip netns exec`,
        which would keep copies of all that is mounted now."""
        machine = name.removeprefix("participant-")
        if machine in self.addresses:
            arguments = ["nsenter", f"--net=/run/netns/{self.prefix}-{machine}", *arguments]
        return super().spawn(name, arguments)

    def cut(self, *ways):
        """Drops what goes from the first to the second machine of each pair."""
        for a, b in ways:
            self._nft(f"add rule bridge cut forward ip saddr {self.addresses[a]} "
                      f"ip daddr {self.addresses[b]} drop")

    def cut_between(self, some, others):
        """Both ways."""
        self.cut(*[way for a in some for b in others for way in ((a, b), (b, a))])

    def heal(self):
        self._nft("flush chain bridge cut forward")

    def move_away(self, participant):
        """Before the start: the others reach that member through a relay (relay.py) on the machine
        named `relay`, if it is one that dials nobody. Returns what sets the delays: milliseconds to
        it and the most that is added, and the same two for the way back."""
        control = self.path("delays")
        participant.reached_at = f"{self.addresses['relay']}:20004"

        def far(*ms):
            self.write(control + ".new", " ".join(str(n) for n in ms))
            os.rename(control + ".new", control)
        far(0, 0, 0, 0)
        self.spawn("relay", [sys.executable, os.path.join(os.path.dirname(__file__), "relay.py"),
                             participant.reached_at, participant.address, control, 20004])
        return far

    def close(self):
        super().close()
        self._remove()

    def _remove(self):
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], stdin=subprocess.DEVNULL,
                           capture_output=True, timeout=20, check=False)
