# SPDX-License-Identifier: Apache-2.0
"""Nemeses of the network: ways that are cut, daemons that stand still, a slow member. Parts of nemesis.py."""
import time

from cluster import check, wait_until
from scene import WAIT_S, WAKES

MEMBERS = ["web", "db", "app", "mail"]
TAKEOVER_S = 3.0  # participant/core/leader.h: without a heartbeat


def takes_over(s, name, by):
    """All of these say so within three seconds from now, what it takes to ask them, and a few times what the
    control of this process overslept meanwhile: that is the machine's."""
    begun = time.monotonic()
    asked = 0.0

    def all_follow():
        nonlocal asked
        at = time.monotonic()
        follow = [s.leader(p) == name for p in by]
        asked = max(asked, time.monotonic() - at)
        return all(follow)
    wait_until(f"{name} leads", WAIT_S, all_follow)
    took = time.monotonic() - begun
    late = s.control.worst(begun, time.monotonic())
    bound = TAKEOVER_S + 2 * asked + WAKES * late
    check("the next leads within three seconds", took <= bound,
          f"{took:.3f} s, of {bound:.3f}: asking took {asked:.3f}, the control was {late:.3f} late")
    s.say(f"{name} leads after {took:.2f} s")


def leader(s):
    c = s.c
    s.start()
    check("web leads", s.leader(c.participants[1]) == "web", s.leader(c.participants[1]))
    s.say("the leader is cut off")
    c.cut_between(["web"], MEMBERS[1:])
    takes_over(s, "db", c.participants[1:])
    c.heal()
    wait_until("web leads all", WAIT_S, lambda: all(s.leader(p) == "web" for p in c.participants))
    s.recovers("the leader is back")
    s.all_hold()


def half(s):
    s.start()
    s.say("web and db here, app and mail there")
    s.c.cut_between(MEMBERS[:2], MEMBERS[2:])
    wait_until("two leaders", WAIT_S, lambda: [s.leader(p) for p in s.c.participants] ==
               ["web", "web", "app", "app"])
    s.c.heal()
    s.recovers("one cluster")
    s.all_hold()


def one_way(s):
    s.start()
    for way in (("app", "web"), ("web", "app")):
        s.say(f"nothing from {way[0]} to {way[1]}")
        s.c.cut(way)
        wait_until("a round fails or does not begin", WAIT_S, lambda w=way: any(
            r["reason"] != "none" and r["member"] in w for p in s.c.participants
            for r in p.status()["rounds"]))
        s.c.heal()
        s.recovers("both ways")
    s.all_hold()


def ring(s):
    s.start()
    s.say("web and app, db and mail do not reach each other")
    s.c.cut_between(["web"], ["app"])
    s.c.cut_between(["db"], ["mail"])
    wait_until("nobody reaches all", WAIT_S, lambda: all(
        p.status()["members"][0]["reach"] < len(MEMBERS) for p in s.c.participants[:3]))
    s.c.heal()
    s.recovers("all reach all")
    s.all_hold()


def pause(s):
    s.start()
    for p, other in ((s.c.participants[0], s.c.participants[1]),
                     (s.c.participants[2], s.c.participants[1])):
        s.say(f"{p.name} stops")
        before = other.status()["members"][0]["reach"]
        p.process.pause(True)
        wait_until("it is missed", WAIT_S, lambda o=other, b=before:
                   o.status()["members"][0]["reach"] < b)
        p.process.pause(False)
        s.recovers(f"{p.name} goes on")
    s.all_hold()


def coordinator(s):
    s.start()
    s.say("nobody reaches the coordinator")
    s.c.cut_between(["coordinator"], MEMBERS)
    web = s.c.participants[0]
    known = {r["round"] for r in web.status()["rounds"]}
    sealed = set()

    def three_more():
        sealed.update(r["round"] for r in web.status()["rounds"]
                      if r["reason"] == "none" and r["round"] not in known)
        return len(sealed) >= 3
    wait_until("rounds go on without it", WAIT_S, three_more)
    there = set(s.c.points())
    s.c.heal()
    late = sealed - there
    check("some were taken while it was away", late, f"{sealed} {there}")
    wait_until("they become points", WAIT_S, lambda: late <= set(s.c.points()))
    s.say(f"{len(late)} rounds of that time became points")
    s.all_hold()


def alone(s):
    """A member that may not lead is cut off from all others; the coordinator is not."""
    c = s.c
    s.start()
    s.say("nobody reaches mail, but the coordinator")
    c.cut_between(["mail"], ["web", "db", "app"])

    def listed(vm):
        return c.command("point", "list", "--single-vm", "--vm", vm, "--local",
                         c.coordinator_local)["points"]

    def lack(p):
        return (p.status()["members"][0]["lack"] or {}).get("reason")
    wait_until("all know why", WAIT_S, lambda: [lack(p) for p in c.participants] ==
               ["missing"] * 3 + ["no-leader"])
    wait_until("each has points of its own", WAIT_S, lambda: all(
        len(listed(vm)) >= 3 for vm in ("web", "db", "app", "mail")))
    c.heal()
    s.recovers("mail is back")
    s.all_hold()


def torn(s):
    s.start("--unsafe-no-hold", "--test-hold-skew-ms", "20", "--test-seed", "7")
    s.c.wait_points("unaligned", 6, 30)
    found = s.judge()
    check("some are torn without the hold", found)


def delay(s):
    """All links of app go through a relay: it dials nobody, all others dial it."""
    c = s.c
    web, app = c.participants[0], c.participants[2]
    far = c.move_away(app)
    s.start()
    for there, back in ((10, 15), (25, 0), (0, 25)):
        s.say(f"app is {there} ms away, and {back} ms on the way back, 0 to 5 more each")
        far(there, 5, back, 5)
        known = {r["round"] for r in web.status()["rounds"]}
        waited = wait_until("rounds that waited for app", WAIT_S, lambda k=known, least=there + back: (
            lambda found: len(found) >= 2 and found)([
                r["slowest_us"] for r in web.status()["rounds"] if r["sealed"] and
                r["round"] not in k and r["slowest"] == "app" and r["slowest_us"] >= least * 1000]))
        s.say(f"the leader says that it waited for app, {max(waited) / 1000:.1f} ms at most")
    far(30, 5, 60, 20)
    s.fails("too far for the budget", ("timeout", "expired", "slow"), "app")
    far(0, 0, 0, 0)
    s.recovers("app is near")
    s.all_hold()


PARTS = {"leader": leader, "half": half, "one-way": one_way, "ring": ring, "pause": pause,
         "coordinator": coordinator, "alone": alone, "torn": torn, "delay": delay}
