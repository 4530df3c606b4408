# SPDX-License-Identifier: Apache-2.0
"""One chain of writes over all disks of a cluster: each is issued when the one before was
acknowledged, on whatever machine. A point must hold what its latest step rests on."""
import collections
import os
import random
import struct
import threading
import time

from cluster import HOLD_MAX_MS, Failed, Nbd, check

PAUSE_S = 0.001  # between two steps
BLOCK = 512  # of a step: the logs last for more than an outage


class Chain(threading.Thread):
    """Step n writes n to the first block of a disk; `where` remembers of which."""

    def __init__(self, disks):
        super().__init__(daemon=True)
        self.disks = disks
        self.random = random.Random(int(os.environ.get("TIDE_SEED", "20004")))
        self.where = [None]
        self.slowest = [0.0] * len(disks)  # of the writes that nothing interrupted
        self.slow = []  # (disk, begin, end) of those that took longer than a hold may last
        self.endures = False  # an error: the same step again, until it is acknowledged
        self.errors = collections.Counter()  # (disk, text) of the answers that were errors
        self.lost = collections.Counter()  # disk -> connections that ended
        self.outage = 0.0  # longest from the first try to the acknowledgement
        self.failed = None
        self.ending = False

    def run(self):
        served = [None] * len(self.disks)
        try:
            while not self.ending:
                disk = self.random.randrange(len(served))
                self.where.append(disk)
                self._step(served, disk, struct.pack("<Q", len(self.where) - 1) * (BLOCK // 8))
                time.sleep(PAUSE_S)
        except (OSError, Failed) as e:
            self.failed = e
        for nbd in served:
            if nbd is not None:
                nbd.close()

    def _step(self, served, disk, data):
        first = time.monotonic()
        for tried in range(1000000):
            begun = time.monotonic()
            try:
                if served[disk] is None:
                    served[disk] = Nbd(self.disks[disk].socket)
                    begun = time.monotonic()
                served[disk].write(0, data)
                now = time.monotonic()
                if tried == 0:
                    self.slowest[disk] = max(self.slowest[disk], now - begun)
                    if now - begun > HOLD_MAX_MS / 1000:
                        self.slow.append((disk, begun, now))
                else:
                    self.outage = max(self.outage, time.monotonic() - first)
                return
            except (OSError, Failed) as e:
                if not self.endures:
                    raise
                self._failed(served, disk, e)
                if self.ending:
                    raise
                time.sleep(0.01)

    def _failed(self, served, disk, error):
        if str(error).endswith("NBD request failed"):
            self.errors[(disk, str(error))] += 1
            return
        if served[disk] is not None:
            self.lost[disk] += 1
            served[disk].close()
            served[disk] = None

    def end(self):
        self.ending = True
        self.join(20)
        check("no write failed or hung", self.failed is None and not self.is_alive(), self.failed)

    def torn(self, values):
        """What is missing of disks with these latest steps, or None."""
        latest = max(values)
        for disk, value in enumerate(values):
            due = next((s for s in range(latest, 0, -1) if self.where[s] == disk), 0)
            if value < due:
                return f"step {latest} is there, step {due} of disk {disk} is not: it has {value}"
        return None

    def judge(self, cluster, points):
        """Exports each point; returns what is torn."""
        torn = []
        for point in points:
            options = ["--unaligned"] if point["label"] == "unaligned" else []
            values = [struct.unpack_from("<Q", cluster.export(point["point"], disk, *options))[0]
                      for disk in self.disks]
            why = self.torn(values)
            if why is not None:
                torn.append(f"{point['point']}: {why}")
        return torn
