# SPDX-License-Identifier: Apache-2.0
"""Nemeses that kill at named points of a round (common/io/faultpoint.h). Parts of nemesis.py.

The daemons are test builds whose fault points read an order: "NAME N PID": when NAME is come by for
the Nth time, the daemon itself (0), or the process named, is killed."""
import os
import random

from cluster import check, wait_until
from scene import WAIT_S


AWAY_MS = (15, 5, 15, 5)  # app from all others, so that holds last


class Points:
    """The fault points of one daemon."""

    def __init__(self, s, process):
        self.s = s
        self.path = s.c.path(f"order-{process}")
        s.c.wraps[process] = ["env", f"TIDE_FAULT_POINT={self.path}"]

    def order(self, name, count=1, pid=0):
        self.s.c.write(self.path + ".new", f"{name} {count} {pid}")
        os.rename(self.path + ".new", self.path)

    def kill(self, process, name, count=1):
        """The daemon dies there, the next time that it comes by."""
        self.order(name, count)
        wait_until(f"{process.name} comes by {name}", WAIT_S, lambda: not process.running())
        self.s.say(f"{process.name} killed at {name}, the time {count}")


def with_points(s, participant):
    participant.program = os.path.join(s.c.build, "tests", "tidemark-participant-faults")
    return Points(s, f"participant-{participant.name}")


def sealed_again(s, of):
    """A round of all, as one that lives says."""
    known = {r["round"] for r in of.status()["rounds"]}
    wait_until("a round is sealed again", WAIT_S, lambda: any(
        r["sealed"] and r["round"] not in known for r in of.status()["rounds"]))


def kill_daemon(s, victim, witness, at, lost):
    """`lost`: how many of these rounds cannot become points."""
    points = with_points(s, victim)
    s.c.move_away(s.c.participants[2])(*AWAY_MS)
    s.start()
    for name, count in at:
        points.kill(victim.process, name, count)
        victim.start()
        sealed_again(s, witness)
    s.recovers("no daemon dies any more")
    wait_until(f"the streams say that {lost} rounds were lost", WAIT_S,
               lambda: len(s.lost_rounds()) >= lost)
    s.all_hold()


# (name, time) of what a member comes by in each round, and what a leader of four does beside it.
OF_MEMBER = [("hold-received", 1), ("taps-hold", 1), ("held-sent", 1), ("tap-released", 1),
             ("taps-sealed", 1)]
OF_LEADER = [("hold-sent", 2), ("taps-hold", 1), ("release-due", 1), ("release-sent", 1),
             ("release-sent", 2), ("release-sent", 4), ("tap-released", 1)]


def kill_member(s):
    _, db, app, _ = s.c.participants
    kill_daemon(s, app, db, OF_MEMBER, 3)


def kill_leader(s):
    web, db, _, _ = s.c.participants
    kill_daemon(s, web, db, OF_LEADER, 6)


def kill_any(s):
    """Drawn: whom, where, and whether it is the daemon or its tap."""
    draw = random.Random(int(os.environ.get("TIDE_SEED", "1")))
    victims = s.c.participants
    points = {p.name: with_points(s, p) for p in victims}
    s.chain.endures = True
    s.c.move_away(victims[2])(*AWAY_MS)
    s.start()
    for _ in range(int(os.environ.get("TIDE_ROUNDS", "20"))):
        p = draw.choice(victims)
        name, count = draw.choice(OF_LEADER + OF_MEMBER if p is victims[0] else OF_MEMBER)
        tap = p.disks[0].tap if draw.random() < 0.3 else None
        dies = tap or p.process
        points[p.name].order(name, count, tap.child.pid if tap else 0)
        wait_until(f"{p.name} comes by {name}", WAIT_S, lambda d=dies: not d.running())
        s.say(f"{dies.name} killed at {name}, the time {count}")
        if tap:
            p.disks[0].start()
        else:
            p.start()
        sealed_again(s, victims[0])
    s.recovers("nothing dies any more")
    check("no error but lost connections", not s.chain.errors, s.chain.errors)
    s.all_hold()


def kill_tap(s):
    """Each tap in turn, once it holds: its daemon kills it when all its taps hold, or has told so."""
    victims = s.c.participants[:3]
    points = [with_points(s, p) for p in victims]
    s.chain.endures = True
    s.c.move_away(s.c.participants[2])(*AWAY_MS)
    s.start()
    for p, own, name in zip(victims, points, ("taps-hold", "held-sent", "taps-hold")):
        tap = p.disks[0]
        own.order(name, 1, tap.tap.child.pid)
        wait_until("it holds, and dies", WAIT_S, lambda t=tap: not t.tap.running())
        s.say(f"{tap.tap.name} killed at {name}")
        wait_until("its daemon has seen it", WAIT_S, lambda d=p: not d.disk("data")["attached"])
        tap.start()
        s.recovers(f"{tap.tap.name} is back")
    reasons = {(r["reason"], r["member"]) for r in s.rounds.values()}
    check("the rounds failed for it", all(
        ("tap-lost", p.name) in reasons or ("aborted", p.name) in reasons for p in victims), reasons)
    check("no error but lost connections", not s.chain.errors and len(s.chain.lost) == len(victims),
          f"{s.chain.errors} {s.chain.lost}")
    s.all_hold()


def kill_coordinator(s):
    c = s.c
    c.coordinator_program = os.path.join(c.build, "tests", "tidemark-coordinator-faults")
    points = Points(s, "coordinator")
    s.start()
    for name, count in (("segment-stored", 1), ("stream-tagged", 1), ("stream-tagged", 3),
                        ("point-written", 1), ("point-listed", 1)):
        points.kill(c.coordinator, name, count)
        c.start_coordinator()
        s.recovers("the coordinator is back")
    for d in c.disks:
        stream = next(p for p in c.participants if p.name == d.member).disk(d.name)
        check("nothing failed", stream["restreams"] == 0 and stream["whole"], stream)
    there = {name.removesuffix(".json") for _, _, names in os.walk(os.path.join(c.path("store"), "points"))
             for name in names}
    check("the catalog lists what the store has", there <= set(c.points()), there - set(c.points()))
    s.all_hold()


PARTS = {"kill-member": kill_member, "kill-leader": kill_leader, "kill-tap": kill_tap,
         "kill-coordinator": kill_coordinator, "kill-any": kill_any}
