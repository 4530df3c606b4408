#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: many members, all real: daemons, taps, a coordinator.

  scale.py members N   N daemons with a disk each: points of all of them come and are not torn; a
                       daemon, then the leader is killed and returns
  scale.py machine     a hypervisor: one daemon stands for five members, another for two, a third
                       for one; points name all eight, and the large daemon is killed and returns

Meanwhile one chain of writes goes over all disks (tests/lib/chain.py); points from before, between and
after are exported and judged."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from chain import Chain  # noqa: E402
from cluster import Cluster, check, run_part, step, wait_until  # noqa: E402

SIZE = 1 << 20
MEMBERS_MAX = 200  # loopback addresses of a cluster


def full(c, known, count, what, seconds):
    """Waits for points with all members that `known` does not have; returns the latest."""
    found = wait_until(f"{count} full points {what}", seconds, lambda: (
        lambda new: new if len(new) >= count else None)(
            [p for k, p in c.points().items() if k not in known and p["label"] == "full"]))
    members = sum(len(p.members) for p in c.participants)
    check("each has every member", all(len(p["members"]) == members for p in found), str(found[-1]))
    step(f"{len(found)} full points {what}")
    return found[-1]


def missed(victim, by):
    return any(r["member"] in victim.members and r["reason"] == "missing"
               for r in by.status()["rounds"])


def killed(c, victim, noticed, what):
    victim.process.kill()
    wait_until(f"{what} is missing, and it is said", 30, noticed)
    known = c.points()
    victim.start()
    return full(c, known, 2, f"after {what} was killed", 60)


def real_time(process):
    """Threads that a hold waits for; whoever may not have that has it not (README of participant/tap)."""
    policies = [os.sched_getscheduler(int(t)) for t in os.listdir(f"/proc/{process.child.pid}/task")]
    return policies.count(os.SCHED_RR)


def members(c):
    begun = time.monotonic()
    c.start()
    first, second, last = c.participants[0], c.participants[1], c.participants[-1]
    chain = Chain(c.disks)
    chain.start()
    judged = [full(c, {}, 3, f"of {len(c.participants)} members", 90)]
    step(f"{time.monotonic() - begun:.1f} s from nothing to here")
    check("the first leads", first.status()["members"][0]["leader"] == first.name)
    judged.append(killed(c, last, lambda: missed(last, first), "the last member's daemon"))
    judged.append(killed(c, first, lambda: missed(first, second), "the leader's daemon"))
    holds = [r["hold_us_max"] / 1000 for r in first.status()["rounds"] if r["sealed"]]
    chain.end()
    torn = chain.judge(c, judged)
    check("no point is torn", not torn, "\n".join(torn))
    step(f"{len(judged)} points exported, none torn; {len(chain.where) - 1} steps, slowest write "
         f"{max(chain.slowest) * 1000:.1f} ms; longest hold of the last {len(holds)} rounds "
         f"{max(holds):.1f} ms")


def machine(c):
    c.start()
    large, pair, single = c.participants
    check("one daemon, several members", [m["member"] for m in large.status()["members"]] ==
          large.members, str(large.status()["members"]))
    if "real-time priority" not in large.process.text():
        check("one real-time thread each", [real_time(p) for p in (
            large.process, *(d.tap for d in large.disks))] == [1] * 6)
    chain = Chain(c.disks)
    chain.start()
    judged = [full(c, {}, 3, "of eight members in three daemons", 60)]
    check("one link to each daemon, and none between those without a candidate",
          [p.status()["link"]["live"] for p in c.participants] == [2, 1, 1],
          str([p.status()["link"] for p in c.participants]))
    for participant in c.participants:
        answer = participant.take("stored", 20)
        check("a round can be asked for anywhere", answer["stored"] and answer["label"] == "full",
              str(answer))
    judged.append(killed(c, large, lambda: single.status()["members"][0]["leader"] == "",
                         "the daemon that has all candidates"))
    chain.end()
    torn = chain.judge(c, judged)
    check("no point is torn", not torn, "\n".join(torn))
    step(f"{len(judged)} points exported, none torn")
    tap = next(d for d in large.disks if d.member == "v3")
    tap.tap.kill()
    wait_until("one member of the daemon lacks its tap", 15,
               lambda: not large.disk("data", "v3")["attached"])
    check("the others have theirs", all(large.disk("data", m)["attached"]
                                        for m in large.members if m != "v3"))
    refused = pair.take()
    check("no round without it", not refused["sealed"] and refused["member"] == "v3", str(refused))
    known = c.points()
    tap.start()
    full(c, known, 2, "with its tap", 30)


def main():
    if sys.argv[1] == "machine":
        machines = {"host1": [f"v{i}" for i in range(1, 6)], "host2": ["v6", "v7"], "host3": ["v8"]}
        names = [m for own in machines.values() for m in own]
        return run_part(machine, Cluster(names, ("data",), size=SIZE, machines=machines))
    count = int(sys.argv[2])
    check("2 to 200 members", 2 <= count <= MEMBERS_MAX, sys.argv[2])
    names = [f"m{i:03}" for i in range(count)]
    return run_part(members, Cluster(names, ("data",), size=SIZE, log_size="8M"))


if __name__ == "__main__":
    sys.exit(main())
