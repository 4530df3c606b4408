#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: two versions of the wire in one group. Beside today's daemon there is a build that also
speaks version 2 and has features 1 and 4 (tests/light/CMakeLists.txt); nothing else differs. Rounds
must come whatever the mixture, in the newest version and with the features that all of the set have:
an old leader with new members, daemons renewed one at a time, a new leader with an old member."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from chain import Chain  # noqa: E402
from cluster import Cluster, check, run_part, step, wait_until  # noqa: E402

NOW = "tidemark-participant"
NEXT = "../tests/tidemark-participant-next"
MEMBERS = ["web", "db", "app"]


def speaks(c, leader, version, features, text):
    """Waits for points of all members, from rounds that this member led, in that version."""
    known = c.points()

    def found():
        rounds = [r for r in leader.status()["rounds"]
                  if r["own"] and r["sealed"] and r["round"] in c.points() and r["round"] not in known]
        return rounds if len(rounds) >= 2 else None
    rounds = wait_until(f"points, {text}", 40, found)
    said = {(r["wire_version"], r["wire_features"]) for r in rounds}
    check(text, said == {(version, features)}, f"{said}, not version {version}, features {features}")
    check("of all members", all(len(r["members"]) == len(MEMBERS) for r in rounds), str(rounds))
    step(f"version {version}, features {features}: {text}")


def becomes(c, participant, program):
    others = [p for p in c.participants if p is not participant]
    participant.process.kill()
    wait_until("its link is seen to end", 15, lambda: all(
        not peer["up"] for p in others for peer in p.status()["members"][0]["peers"]
        if peer["member"] == participant.name))
    participant.program = c.binary(program)
    participant.start()
    step(f"{participant.name} is {os.path.basename(program)} now")


def mixture(c):
    web, db, app = c.participants
    for p in (db, app):
        p.program = c.binary(NEXT)
    c.start()
    chain = Chain(c.disks)
    chain.start()
    speaks(c, web, 1, 0, "an old leader, new members")
    becomes(c, web, NEXT)
    speaks(c, web, 2, 5, "all are new")
    becomes(c, app, NOW)
    speaks(c, web, 1, 0, "a new leader, an old member")
    becomes(c, app, NEXT)
    speaks(c, web, 2, 5, "all are new again")
    chain.end()
    points = list(c.points().values())[-6:]
    torn = chain.judge(c, points)
    check("no point is torn", not torn, "\n".join(torn))
    for p in c.participants:
        check("nobody refused a version", "wire version" not in p.process.text(),
              p.process.text()[-2000:])
    step(f"{len(points)} points exported, none torn")


if __name__ == "__main__":
    sys.exit(run_part(mixture, Cluster(MEMBERS, ("data",), size=1 << 20)))
