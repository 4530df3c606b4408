# SPDX-License-Identifier: Apache-2.0
"""Nemeses of a machine: little memory, a clock that is wrong, a certificate that expires. Parts of
nemesis.py."""
import concurrent.futures
import os
import re
import socket
import time

import cage
from cluster import Failed, check, wait_until
from scene import WAIT_S

MIB = 1 << 20
# Above what a process uses at first, for its limit; the coordinator has segments under way.
ROOM = {"participant-app": 4 * MIB, "coordinator": 16 * MIB, "tap-web-data": 2 * MIB}
HOUR = 3600
DAY = 24 * HOUR
SHORT_S = 10  # how long a certificate lasts that is to expire


def memory(s):
    c = s.c
    app = c.participants[2]
    cages = {name: cage.Cage(c, name) for name in ROOM}
    s.chain.endures = True
    s.start()
    for name, group in cages.items():
        used = group.used()
        group.limit(used + ROOM[name])
        s.say(f"{name} uses {used / MIB:.1f} MiB, and may use {(used + ROOM[name]) / MIB:.1f}")
    s.recovers("within the limits")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(app.status) for _ in range(40)]:
            answer.result()
        for answer in [pool.submit(c.points) for _ in range(40)]:
            answer.result()
    s.recovers("beside 80 commands")
    check("nothing was killed", all(group.killed() == 0 for group in cages.values()))
    for name, process, again in (("participant-app", app.process, app.start),
                                 ("coordinator", c.coordinator, c.start_coordinator)):
        cages[name].crowd(process)
        s.say(f"the kernel has killed {name} for want of memory")
        again()
        s.recovers(f"{name} is back within its limit")
    check("the guest saw no error", not s.chain.errors and not s.chain.lost,
          f"{s.chain.errors} {s.chain.lost}")
    s.all_hold()


class Clock:
    """The wall clock of some processes."""

    def __init__(self, c, *processes):
        self.c = c
        self.path = c.path(f"clock-{processes[0]}")
        self.wrap = ["env", f"LD_PRELOAD={c.build}/tests/clock_shift.so", f"TIDE_CLOCK={self.path}"]
        for process in processes:
            c.wraps[process] = [*self.wrap, *c.wraps.get(process, [])]
        self.shift(0)

    def shift(self, seconds):
        self.c.write(self.path + ".new", f"{seconds}\n")
        os.rename(self.path + ".new", self.path)


def new_handshakes(s, some, others):
    """All links between these members are lost, and made again."""
    def up(p, to):
        return any(peer["up"] and peer["member"] in to for peer in p.status()["members"][0]["peers"])
    s.c.cut_between(some, others)
    wait_until("the links are lost", WAIT_S, lambda: not any(
        up(p, others if p.name in some else some) for p in s.c.participants))
    s.c.heal()


def says(s, participant, about):
    """Its log says that something of that has expired."""
    def line():
        return next((each for each in participant.process.text().splitlines()
                     if about in each and "expired" in each), None)
    s.say(wait_until(f"{participant.name} says that a {about} has expired", WAIT_S, line))


def end_listener(c):
    """Clients that come and go end a listener of libnng: its guard notices, whatever the clock."""
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(c.coordinator_local)

    def answers():
        try:
            return c.points()
        except Failed:
            return None
    wait_until("commands are answered again, after clients that came and went", WAIT_S, answers)


def verdict(c, good):
    """Of the newest point: a member that signs at a time before its certificate attests nothing, and
    that is said."""
    point = list(c.points())[-1]

    def said():
        done = c.tidemark("point", "verify", point, "--store", c.path("store"), "--ca",
                          c.path("pki/ca.crt"), "--master-key", c.master_key)
        if good:
            return done.returncode == 0 and "attested by all"
        return done.returncode == 1 and re.search('member "db".* is valid from .* signed at \\S+',
                                                  done.stderr)
    found = wait_until(f"verify says {'yes' if good else 'why not'} of {point}", WAIT_S, said)
    return found if good else found.group()


def clock(s):
    c = s.c
    web, db, app, mail = c.participants
    clocks = {p.name: Clock(c, f"participant-{p.name}", f"tap-{p.name}-data") for p in (web, db)}
    clocks["coordinator"] = Clock(c, "coordinator")
    s.start()
    for name, hours in (("db", 6), ("db", -6), ("web", -3), ("coordinator", 5), ("coordinator", -5)):
        s.say(f"the clock of {name} is {hours} h off")
        clocks[name].shift(hours * HOUR)
        s.recovers("by that clock")
        if name == "coordinator":
            end_listener(c)
        if name == "db":
            s.say(f"point verify: {verdict(c, hours >= 0)}")
        clocks[name].shift(0)
    points = list(c.points().values())
    order = [disk["lsn"] for p in points for m in p["members"] if m["member"] == "mail"
             for disk in m["disks"]]
    check("points are listed in the order in which they were taken", order == sorted(order),
          [(p["time"], lsn) for p, lsn in zip(points, order)])

    s.say("the coordinator ends in time although its clock was just set back")
    clocks["coordinator"].shift(5 * HOUR)
    s.recovers("by that clock")
    clocks["coordinator"].shift(0)
    check("status 0", c.coordinator.stop(WAIT_S) == 0, c.coordinator.text()[-500:])
    c.start_coordinator()

    s.say("the clock of web is 400 days ahead, and its links are made again")
    clocks["web"].shift(400 * DAY)
    new_handshakes(s, ["web"], ["db", "app", "mail"])
    says(s, web, "certificate")
    clocks["web"].shift(0)
    s.recovers("its clock is right again")
    s.all_hold()


def certificates(s):
    c = s.c
    web, app = c.participants[0], c.participants[2]
    prefix = c.path("pki/app")
    past = Clock(c, "pki")
    past.shift(SHORT_S - DAY)
    s.start()
    c.reissue("participant", "app", prefix, past.wrap, days=1)
    until = time.time() + SHORT_S
    app.process.hang_up("were read again")
    s.recovers("with a certificate that lasts for some seconds")
    wait_until("it has expired", WAIT_S, lambda: time.time() > until + 1)
    sealed = web.status()["rounds_sealed"]
    wait_until("links that are up go on", WAIT_S, lambda: web.status()["rounds_sealed"] > sealed)
    s.say("app's certificate has expired, and links are made again")
    new_handshakes(s, ["app"], ["web", "db", "mail"])
    c.coordinator.kill()
    c.start_coordinator()
    s.fails("app is refused", ("missing",), "app")
    says(s, web, "certificate")
    s.say("app says: " + wait_until("app says why the coordinator refuses it", WAIT_S, lambda: next(
        (e for e in [app.disk("data")["error"]] if "expired" in e), None)))
    c.reissue("participant", "app", prefix)
    app.process.hang_up("were read again")
    s.recovers("its certificate is renewed")
    s.all_hold()


PARTS = {"memory": memory, "clock": clock, "certificates": certificates}
