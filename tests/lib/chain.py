# SPDX-License-Identifier: Apache-2.0
"""One chain of writes over all disks of a cluster: each is issued when the one before was
acknowledged, on whatever machine. A point must hold what its latest step rests on."""
import random
import struct
import threading
import time

from cluster import Failed, Nbd, check

PAUSE_S = 0.001  # between two steps: the logs last for more than an outage


class Chain(threading.Thread):
    """Step n writes n to the first block of a disk; `where` remembers of which."""

    def __init__(self, disks):
        super().__init__(daemon=True)
        self.disks = disks
        self.random = random.Random(20004)
        self.where = [None]
        self.slowest = 0.0
        self.failed = None
        self.ending = False

    def run(self):
        try:
            served = [Nbd(d.socket) for d in self.disks]
            while not self.ending:
                disk = self.random.randrange(len(served))
                self.where.append(disk)
                begun = time.monotonic()
                served[disk].write(0, struct.pack("<Q", len(self.where) - 1) * 512)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                time.sleep(PAUSE_S)
            for nbd in served:
                nbd.close()
        except (OSError, Failed) as e:
            self.failed = e

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
