#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: four machines and a coordinator in network namespaces, under one nemesis each.

  nemesis.py leader       the leader is cut off from the other members
  nemesis.py half         two members here, two there
  nemesis.py one-way      what the leader says reaches one member, but not the way back; then the reverse
  nemesis.py ring         each member reaches its two neighbours only
  nemesis.py pause        the leader's daemon, then another one, is stopped for a while and goes on
  nemesis.py coordinator  the coordinator cannot be reached: rounds go on, and become points later
  nemesis.py alone        a member that may not lead is cut off from all others, which the group needs: each
                          goes on with points of its own, and those hold what their latest step rests on there
  nemesis.py torn         hold switched off: the judge of the other parts must find points torn

Meanwhile one chain of writes goes over all disks: each is issued when the one before was acknowledged,
on whatever machine. Each published point is exported, and must hold what its latest step rests on.
Says what a guest felt, which rounds failed and why."""
import collections
import os
import random
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Failed, Nbd, check, run_part, step, wait_until  # noqa: E402
from netcluster import NetCluster  # noqa: E402

MEMBERS = ["web", "db", "app", "mail"]
PAUSE_S = 0.001  # between two steps: the logs last for more than the outage
JUDGED_MAX = 12  # points of a part that are exported


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
        """What is missing of disks with these latest steps, or None: a list of all disks, or a
        mapping from some."""
        values = values if isinstance(values, dict) else dict(enumerate(values))
        latest = max(values.values())
        for disk, value in values.items():
            due = next((s for s in range(latest, 0, -1) if self.where[s] == disk), 0)
            if value < due:
                return f"step {latest} is there, step {due} of disk {disk} is not: it has {value}"
        return None


class Scene:
    def __init__(self, c):
        self.c = c
        self.chain = Chain(c.disks)
        self.rounds = {}
        self.takes_notes = True
        self.notes = threading.Thread(target=self._note, daemon=True)

    def _note(self):
        """Each participant tells its last rounds only: they are looked at often."""
        while self.takes_notes:
            for p in self.c.participants:
                try:
                    for r in p.status()["rounds"]:
                        self.rounds[(r["round"], r["reason"], r["member"])] = r
                except (Failed, subprocess.TimeoutExpired):
                    pass  # stopped, by the nemesis
            time.sleep(0.3)

    def start(self, *switches):
        self.c.start(*switches)
        self.c.wait_points("at the start", 2, 30, {})
        self.chain.start()
        self.notes.start()

    def leader(self, of):
        return of.status()["members"][0]["leader"]

    def recovers(self, text):
        """Points of all members come again, with nobody touching anything."""
        before = self.c.points()
        wait_until(f"full points again, {text}", 30, lambda: len(
            [k for k, p in self.c.points().items() if k not in before and p["label"] == "full"]) >= 2)
        step(f"full points again, {text}")

    def judge(self):
        """Ends the chain; returns how many points were torn, of how many."""
        self.chain.end()
        self.takes_notes = False
        self.notes.join(20)
        for p in self.c.participants:
            for d in p.disks:
                check("no hold is left", not p.disk(d.name)["holding"], f"{p.name}/{d.name}")
        points = list(self.c.points().values())
        chosen = points[-JUDGED_MAX:]
        torn = []
        for point in chosen:
            values = [struct.unpack_from("<Q", self.c.export(point["point"], d, *(
                ["--unaligned"] if point["label"] == "unaligned" else [])))[0] for d in self.c.disks]
            why = self.chain.torn(values)
            if why is not None:
                torn.append(f"{point['point']}: {why}")
        reasons = collections.Counter(
            f"{r['reason']} at {r['member']}" for r in self.rounds.values() if r["reason"] != "none")
        step(f"{len(self.chain.where) - 1} steps, slowest write {self.chain.slowest * 1000:.1f} ms; "
             f"{len(points)} points, {len(chosen)} judged, {len(torn)} torn; rounds failed: "
             f"{dict(reasons) or 'none'}")
        return torn

    def all_hold(self):
        torn = self.judge()
        check("no point is torn", not torn, "\n".join(torn))


def leader(s):
    c = s.c
    s.start()
    check("web leads", s.leader(c.participants[1]) == "web", s.leader(c.participants[1]))
    step("the leader is cut off")
    c.cut_between(["web"], MEMBERS[1:])
    wait_until("db leads the rest", 15, lambda: all(s.leader(p) == "db" for p in c.participants[1:]))
    c.heal()
    wait_until("web leads all", 30, lambda: all(s.leader(p) == "web" for p in c.participants))
    s.recovers("the leader is back")
    s.all_hold()


def half(s):
    s.start()
    step("web and db here, app and mail there")
    s.c.cut_between(MEMBERS[:2], MEMBERS[2:])
    wait_until("two leaders", 15, lambda: [s.leader(p) for p in s.c.participants] ==
               ["web", "web", "app", "app"])
    s.c.heal()
    s.recovers("one cluster")
    s.all_hold()


def one_way(s):
    s.start()
    for way in (("app", "web"), ("web", "app")):
        step(f"nothing from {way[0]} to {way[1]}")
        s.c.cut(way)
        wait_until("a round fails or does not begin", 20, lambda w=way: any(
            r["reason"] != "none" and r["member"] in w for p in s.c.participants
            for r in p.status()["rounds"]))
        s.c.heal()
        s.recovers("both ways")
    s.all_hold()


def ring(s):
    s.start()
    step("web and app, db and mail do not reach each other")
    s.c.cut_between(["web"], ["app"])
    s.c.cut_between(["db"], ["mail"])
    wait_until("nobody reaches all", 20, lambda: all(
        p.status()["members"][0]["reach"] < len(MEMBERS) for p in s.c.participants[:3]))
    s.c.heal()
    s.recovers("all reach all")
    s.all_hold()


def pause(s):
    s.start()
    for p, other in ((s.c.participants[0], s.c.participants[1]),
                     (s.c.participants[2], s.c.participants[1])):
        step(f"{p.name} stops")
        before = other.status()["members"][0]["reach"]
        p.process.pause(True)
        wait_until("it is missed", 20, lambda o=other, b=before:
                   o.status()["members"][0]["reach"] < b)
        p.process.pause(False)
        s.recovers(f"{p.name} goes on")
    s.all_hold()


def coordinator(s):
    s.start()
    step("nobody reaches the coordinator")
    s.c.cut_between(["coordinator"], MEMBERS)
    web = s.c.participants[0]
    known = {r["round"] for r in web.status()["rounds"]}
    sealed = set()

    def three_more():
        sealed.update(r["round"] for r in web.status()["rounds"]
                      if r["reason"] == "none" and r["round"] not in known)
        return len(sealed) >= 3
    wait_until("rounds go on without it", 20, three_more)
    there = set(s.c.points())
    s.c.heal()
    late = sealed - there
    check("some were taken while it was away", late, f"{sealed} {there}")
    wait_until("they become points", 60, lambda: late <= set(s.c.points()))
    step(f"{len(late)} rounds of that time became points")
    s.all_hold()


def alone(s):
    c = s.c
    s.start()
    step("nobody reaches mail, but the coordinator")
    c.cut_between(["mail"], MEMBERS[:3])

    def listed(vm):
        return c.command("point", "list", "--single-vm", "--vm", vm, "--local",
                         c.coordinator_local)["points"]

    def lack(p):
        return (p.status()["members"][0]["lack"] or {}).get("reason")
    wait_until("all know why", 20, lambda: [lack(p) for p in c.participants] ==
               ["missing"] * 3 + ["no-leader"])
    wait_until("each has points of its own", 30, lambda: all(
        len(listed(vm)) >= 3 for vm in MEMBERS))
    c.heal()
    s.recovers("mail is back")
    judged = 0
    for vm in MEMBERS:
        for point in listed(vm)[-2:]:
            values = {k: struct.unpack_from("<Q", c.export(point["point"], d))[0]
                      for k, d in enumerate(c.disks) if d.member == vm}
            why = s.chain.torn(values)
            check("a point of one VM is not torn", why is None, f"{point['point']}: {why}")
            judged += 1
    step(f"{judged} points of single VMs judged, none torn")
    s.all_hold()


def torn(s):
    s.start("--unsafe-no-hold", "--test-hold-skew-ms", "20", "--test-seed", "7")
    s.c.wait_points("unaligned", 6, 30)
    found = s.judge()
    check("some are torn without the hold", found)


PARTS = {"leader": leader, "half": half, "one-way": one_way, "ring": ring, "pause": pause,
         "coordinator": coordinator, "alone": alone, "torn": torn}


def main():
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    part = PARTS[sys.argv[1]]
    return run_part(lambda c: part(Scene(c)), NetCluster(MEMBERS))


if __name__ == "__main__":
    sys.exit(main())
