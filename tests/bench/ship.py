#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What shipping costs: one disk, its tap, participant and coordinator as real processes on loopback.

usage: TIDE_BUILD=build tests/bench/ship.py [MIB [TURNS]]        (512 MiB, 5 turns)

A turn: the participant is away, MIB are written in writes of 128 KiB, the participant starts, and
the time until the coordinator has stored all of it is taken, with the CPU time of both processes.
Another turn writes with the participant running. The log holds it all: no overflow."""
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Nbd, wait_until  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB
WRITE = 128 << 10
TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process):
    with open(f"/proc/{process.child.pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def write(disk, mib):
    nbd = Nbd(disk.socket)
    data = os.urandom(WRITE)
    for at in range(0, mib * MIB, WRITE):
        nbd.write(at % SIZE, data)
    nbd.flush()
    nbd.close()


def until_stored(participant, disk):
    def stored():
        status = participant.disk(disk.name)
        return status["attached"] and status["stored_lsn"] + 1 >= status["next_lsn"]
    wait_until("everything is stored", 120, stored)


def turn(cluster, mib, behind):
    participant, disk = cluster.participants[0], cluster.disks[0]
    if behind:
        participant.process.stop()
        write(disk, mib)
        coordinator = cpu_seconds(cluster.coordinator)
        begun = time.monotonic()
        participant.start()
        before = 0.0
    else:
        coordinator = cpu_seconds(cluster.coordinator)
        before = cpu_seconds(participant.process)
        begun = time.monotonic()
        write(disk, mib)
    until_stored(participant, disk)
    took = time.monotonic() - begun
    return (mib * MIB / 1e6 / took,
            (cpu_seconds(participant.process) - before) / (mib * MIB / 1e9),
            (cpu_seconds(cluster.coordinator) - coordinator) / (mib * MIB / 1e9))


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    cluster = Cluster(["web"], disks=("data",), interval="1s", size=SIZE)
    try:
        cluster.disks[0].log_size = f"{2 * mib + 256}M"
        cluster.start()
        cluster.wait_points("before anything is measured", 1, 20, {})
        print(f"{mib} MiB a turn, {turns} turns; medians (least to most)")
        for behind in (True, False):
            got = list(zip(*[turn(cluster, mib, behind) for _ in range(turns)]))
            print("the log was full of it:" if behind else "while it was written:")
            for what, values in zip(("MB/s shipped", "CPU s/GB, participant",
                                     "CPU s/GB, coordinator"), got):
                print(f"  {what:24} {statistics.median(values):7.2f} "
                      f"({min(values):.2f} to {max(values):.2f})")
        problems = cluster.participants[0].disk("data")
        print(f"whole {problems['whole']}, shipping {problems['shipping']}")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
