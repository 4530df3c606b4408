#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a round holds, beside the bare program, alternating; and what a daemon costs.

usage: TIDE_BUILD=build tests/bench/hold.py [--rounds R] [--only ROW,ROW] [--idle SECONDS]

daemons-2 -16 -64      real daemons and taps; beside them the bare program with a process for each member,
                       and the same with another process behind each (hop), as a tap is one
light-16 -64 -256      members in one program of 2 threads, and so the bare program
mesh-2 -4 -16          no daemons: the bare program, and one in which each member tells all others
cost                   memory and CPU of a daemon, counted for --idle seconds (30)

R (200) rounds of each program in a row, the order changing from turn to turn, after one of each that is
not counted. A hold is the longest of its round, from bookmark to letting go; a round ends when all have
answered how it went, and for daemons that is after a sync."""
import argparse
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Failed, check, wait_until  # noqa: E402

ROWS = ["daemons-2", "daemons-16", "daemons-64", "light-16", "light-64", "light-256", "mesh-2",
        "mesh-4", "mesh-16", "cost"]
THREADS = 2
AIM_TIMES = 2  # p99 of the bare program's, at 16 and 64
AIM_MS = 25    # p99 at 256
TICK = os.sysconf("SC_CLK_TCK")


class Program:
    """bench_bare or bench_light: a line in is a round, a line out is what it took."""

    def __init__(self, name, *arguments):
        path = os.path.join(os.environ["TIDE_BUILD"], "bench", name)
        self.child = subprocess.Popen([path, *map(str, arguments)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        check("it is ready", self.child.stdout.readline() == "ready\n", name)

    def round(self):
        """Hold and whole round in us, or None where it failed."""
        self.child.stdin.write("round\n")
        self.child.stdin.flush()
        words = self.child.stdout.readline().split()
        check("it answers", len(words) >= 2, str(words))
        return (int(words[0]), int(words[1])) if len(words) == 2 else None

    def close(self):
        self.child.stdin.close()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(10)


class Daemons:
    """As Program, with real daemons and taps; their own rounds are a day apart."""

    def __init__(self, count):
        self.cluster = Cluster([f"m{i:03}" for i in range(count)], ("data",), interval="24h",
                               size=1 << 20, log_size="8M")
        try:
            self.cluster.start()
            self.leader = self.cluster.participants[0]
            wait_until("a first round", 60, lambda: self.leader.take()["sealed"])
        except Failed:
            self.cluster.close()
            raise

    def round(self):
        answer = self.leader.take()
        if not answer["sealed"]:
            return None
        told = next(r for r in self.leader.status()["rounds"] if r["round"] == answer["round"])
        return told["hold_us_max"], told["total_us"]

    def close(self):
        self.cluster.close()


def quantile(values, part):
    return sorted(values)[int((len(values) - 1) * part)]


def programs(row):
    """What a row compares, by name; the bare program is the first."""
    kind, count = row.split("-")
    if kind == "daemons":
        return {"bare": lambda: Program("bench_bare", count),
                "bare, hop": lambda: Program("bench_bare", count, "hop"),
                "daemons": lambda: Daemons(int(count))}
    if kind == "light":
        return {"bare": lambda: Program("bench_bare", count, THREADS),
                "light": lambda: Program("bench_light", count, THREADS)}
    return {"bare": lambda: Program("bench_bare", count), "mesh": lambda: Program("bench_mesh", count)}


def verdict(name, count, p99_ms, times):
    if name not in ("daemons", "light") or count == 2:
        return ""
    if count == 256:
        return "ok" if p99_ms <= AIM_MS else f"over {AIM_MS} ms"
    return "ok" if times <= AIM_TIMES else f"over {AIM_TIMES}"


def compare(row, rounds):
    running = {}
    got = {name: [] for name in programs(row)}
    try:
        for name, start in programs(row).items():
            running[name] = start()
            running[name].round()
        for turn in range(rounds):
            for name in sorted(running, reverse=turn % 2 == 0):
                got[name].append(running[name].round())
    finally:
        for program in running.values():
            program.close()
    count = int(row.split("-")[1])
    bare = None
    for name, took in got.items():
        good = [t for t in took if t is not None]
        if not good:
            print(f"| {count} | {name} | no round came whole, of {len(took)} |", flush=True)
            continue
        p50, p99, most = (quantile([t[0] for t in good], part) / 1000 for part in (0.5, 0.99, 1))
        bare = bare or (p50, p99)
        rate = 1e6 * len(good) / sum(t[1] for t in good)
        print(f"| {count} | {name} | {p50:.2f} | {p99:.2f} | {most:.2f} | {p50 / bare[0]:.1f} | "
              f"{p99 / bare[1]:.1f} | {rate:.0f} | {len(took) - len(good)} | "
              f"{verdict(name, count, p99, p99 / bare[1])} |", flush=True)


def memory(pid):
    """RSS and PSS in MiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        fields = dict(line.split()[:2] for line in f.readlines()[1:])
    return int(fields["Rss:"]) / 1024, int(fields["Pss:"]) / 1024


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cost_of(text, cluster, processes, seconds):
    """Of processes that do what they do for that long; the group is not touched meanwhile."""
    wait_until("rounds come", 60, lambda: cluster.participants[0].status()["rounds_sealed"] > 0)
    before = [cpu_seconds(p.child.pid) for p in processes]
    begun = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    for name, process, was in zip(text, processes, before):
        rss, pss = memory(process.child.pid)
        cpu = cpu_seconds(process.child.pid) - was
        print(f"| {name} | {rss:.1f} | {pss:.1f} | {cpu / passed * 60:.2f} |", flush=True)


def cost(seconds):
    print("\n| process | RSS MiB | PSS MiB | CPU s a minute |\n| --- | --- | --- | --- |")
    for count, interval in ((1, "24h"), (1, "5s"), (64, "5s")):
        c = Cluster([f"m{i:03}" for i in range(count)], ("data",), interval=interval, size=1 << 20,
                    log_size="8M")
        try:
            c.start()
            some = [c.participants[0], c.participants[-1]] if count > 1 else [c.participants[0]]
            names = [f"participant, {'leads ' if p is some[0] else ''}a group of {count}, a round "
                     f"each {interval}" for p in some]
            cost_of([*names, "its tap (nbdkit), no guest"], c,
                    [*(p.process for p in some), some[-1].disks[0].tap], seconds)
        finally:
            c.close()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--idle", type=int, default=30)
    options = parser.parse_args()
    rows = options.only.split(",")
    check(f"rows of {','.join(ROWS)}", set(rows) <= set(ROWS), options.only)
    print(f"{options.rounds} rounds each\n\n"
          "| members | program | hold p50 ms | p99 | most | p50 / bare | p99 / bare | rounds a second | "
          "failed | aim |\n" + "| --- " * 10 + "|")
    for row in ROWS:
        if row in rows and row != "cost":
            compare(row, options.rounds)
    if "cost" in rows:
        cost(options.idle)


if __name__ == "__main__":
    main()
