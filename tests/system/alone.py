#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: three real machines of which one is missing, or slow.

  alone.py missing    the group is strict and one is away: the others go on with points of their own, which are listed apart,
                      exported and verified, and never pass for points of the group; the alarm is there
                      at once, and its end too
  alone.py partial    the same in a partial group: points of who is there, partial wherever they are shown
  alone.py slow       one answers too late: it is named, and the others are not held for it
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import GROUP, Cluster, Nbd, check, run_part, step, wait_until  # noqa: E402


def single(c, *more):
    answer = c.command("point", "list", GROUP, "--single-vm", *more, "--local", c.coordinator_local)
    return {p["point"]: p for p in answer["points"]}


def member(p):
    return p.status()["members"][0]


def verify(c, point, *more):
    return c.tidemark("point", "verify", point, "--store", c.path("store"), "--ca",
                      c.path("pki/ca.crt"), "--master-key", c.master_key, *more)


def events(c, p, kind):
    return [e for e in c.command("events", "--local", p.local)["events"] if e["type"] == kind]


def listed_apart(c, killed_ns):
    """Of the group those from before, and of single VMs what is theirs."""
    check("the group has no later points",
          all(p["wall_ns"] < killed_ns for p in c.points().values()), str(c.points()))
    points = single(c)
    check("each is of one VM", all(
        p["label"] == "single-vm" and p["scope"] == "member" and p["missing"] == [] and
        [m["member"] for m in p["members"]] == [p["vm"]] for p in points.values()), str(points))
    of_web = single(c, "--vm", "web")
    check("the filter", of_web and all(p["vm"] == "web" for p in of_web.values()) and
          len(of_web) < len(points), str(of_web))
    return points


def missing(c):
    web, db, app = c.participants
    c.start()
    c.wait_points("at the start", 2, 15, {})
    wait_until("points of the group, say all", 10,
               lambda: all(member(p)["points"] == "group" for p in c.participants))

    step("db's daemon is killed: an alarm, and points of single VMs")
    db.process.kill()
    killed_ns = time.time_ns()
    for p in (web, app):
        wait_until(f"{p.name} says so", 15, lambda p=p: member(p)["points"] == "single-vm")
        lack = member(p)["lack"]
        check("who and why", lack["member"] == "db" and lack["reason"] == "missing", str(lack))
        alarm = events(c, p, "points-lost")
        check("the alarm", alarm and "missing at member db" in alarm[-1]["text"], str(alarm))
    sealed = web.status()["rounds_sealed"]
    table = c.tidemark("participant", "status", "--local", web.local)
    check("the table", "single-vm: missing at db" in table.stdout, table.stdout)
    held = {}
    for d in web.disks:
        nbd = Nbd(d.socket)
        nbd.write(65536, f"alone {d.name}".encode().ljust(4096, b"."))
        nbd.flush()
        held[d] = nbd.read_all()
        nbd.close()
    before = single(c)
    point = wait_until("two points of web's after the write", 15, lambda: sorted(
        (p for k, p in single(c, "--vm", "web").items() if k not in before),
        key=lambda p: p["wall_ns"])[1:])[-1]
    wait_until("points of app's", 15, lambda: single(c, "--vm", "app"))

    step("listed apart; exported; verified")
    points = listed_apart(c, killed_ns)
    check("none of db's", not any(p["vm"] == "db" for p in points.values()), str(points))
    for d, source in held.items():
        check("an export is the disk", c.export(point["point"], d) == source, d.name)
    text = c.tidemark("point", "list", GROUP, "--local", c.coordinator_local).stdout
    check("the list says that there are more", "points of single VMs are not listed here" in text, text)
    text = c.tidemark("point", "show", point["point"], "--local", c.coordinator_local).stdout
    check("show says what it is", "web alone: this is no point of the group" in text, text)
    done = c.tidemark("point", "export", point["point"], "--vm", "db", "--disk", "data", "--to",
                      c.path("never"), "--local", c.coordinator_local)
    check("it cannot recover the group", done.returncode == 4 and
          "is of VM 'web' alone" in done.stderr, done.stderr)
    verdict = json.loads(verify(c, point["point"], "-o", "json").stdout)
    check("verified, as what it is", verdict["verdict"] == "yes" and
          verdict["label"] == "single-vm", str(verdict))
    status = web.status()
    check("counted apart", status["rounds_sealed"] == sealed and status["single_vm_sealed"] >= 2,
          f"{sealed}: {status['rounds_sealed']}, {status['single_vm_sealed']}")
    last = [r for r in status["rounds"] if r["scope"] == "member"][-1]
    check("the round", last["sealed"] and last["label"] == "single-vm" and
          [m["member"] for m in last["members"]] == ["web"], str(last))

    step("db is back: points of the group, and no others")
    db.start()
    full = c.wait_points("after db came back", 3, 30)
    check("full", all(p["label"] == "full" for p in full.values()), str(full))
    for p in (web, app):
        check("the alarm is over", member(p)["points"] == "group" and
              events(c, p, "points-back"), str(member(p)))
    begun = min(p["wall_ns"] for p in full.values())
    later = [p for p in single(c).values() if p["wall_ns"] > begun]
    check("no VM goes on alone", not later, str(later))


def partial(c):
    web, db, app = c.participants
    c.missing = "partial"
    c.start()
    wait_until("full ones", 20, lambda: any(p["label"] == "full" for p in c.points().values()))
    step("db's daemon is killed: points of the others, and an alarm")
    db.process.kill()
    for p in (web, app):
        wait_until(f"{p.name} says so", 15, lambda p=p: member(p)["points"] == "partial")
        check("who and why", member(p)["lack"]["member"] == "db", str(member(p)["lack"]))
        alarm = events(c, p, "points-partial")
        check("the alarm", alarm and "missing at member db" in alarm[-1]["text"], str(alarm))
    before = c.points()
    points = c.wait_points("without db", 2, 20, before)
    for p in points.values():
        check("partial", (p["label"], p["scope"], p["missing"], p["vm"]) ==
              ("partial", "group", ["db"], "") and
              [m["member"] for m in p["members"]] == ["web", "app"], str(p))
    point = next(iter(points))
    line = next(text for text in c.tidemark("point", "list", GROUP, "--local",
                                            c.coordinator_local).stdout.splitlines()
                if text.startswith(point[:12]))
    check("the list", "partial" in line and "2 of 3" in line, line)
    text = c.tidemark("point", "show", point, "--local", c.coordinator_local).stdout
    check("show", "label    partial" in text and "missing  db" in text, text)
    verdict = wait_until("verified", 10, lambda: (
        lambda v: v if v.returncode == 0 else None)(verify(c, point))).stdout
    check("as what it is", "label     partial, 2 of 3 members" in verdict and "missing" in verdict,
          verdict)
    done = c.tidemark("point", "export", point, "--vm", "db", "--disk", "data", "--to",
                      c.path("never"), "--local", c.coordinator_local)
    check("nothing of db's", done.returncode == 4 and "it is partial" in done.stderr, done.stderr)
    for p in (web, app):
        last = [r for r in p.status()["rounds"] if r["sealed"]][-1]
        check("the round", last["label"] == "partial", str(last))
    check("nobody goes alone", not single(c), str(single(c)))
    step("db is back: full ones")
    db.start()
    wait_until("full ones again", 30, lambda: any(
        p["label"] == "full" for k, p in c.points().items() if k not in before and k not in points))
    for p in (web, app):
        check("the alarm is over", member(p)["points"] == "group" and
              events(c, p, "points-back"), str(member(p)))


def holds_of(p, name):
    return next(peer for peer in member(p)["peers"] if peer["member"] == name)


def slow(c):
    web, db, _ = c.participants
    c.start()
    c.wait_points("at the start", 3, 20, {})
    of_db = wait_until("holds are counted", 10, lambda: (
        lambda h: h if h["answers"] >= 2 and h["holds"] else None)(holds_of(web, "db")))
    spread = of_db["holds"]
    check("a distribution", 0 < spread["p50_us"] <= spread["p99_us"] <= spread["max_us"] <= 100000 and
          spread["count"] >= 2, str(of_db))
    check("nobody is slow", not of_db["slow"] and of_db["expected_us"] > 0, str(of_db))
    check("others are told of holds too", wait_until(
        "of web", 10, lambda: holds_of(db, "web")["holds"])["count"] > 0)

    step("db waits up to a second before each hold: it is named")
    check("status 0", db.process.stop() == 0, db.process.text()[-500:])
    db.start("--test-hold-skew-ms", "1000", "--test-seed", "7")

    def named():
        lack = member(web)["lack"]
        return lack and lack["reason"] == "slow" and lack["member"] == "db"
    wait_until("web names it", 40, named)
    table = c.tidemark("participant", "status", "--local", web.local).stdout
    check("in the table", "slow: left out of rounds" in table, table)
    refused = wait_until("a round that is not begun", 10, lambda: [
        r for r in web.status()["rounds"] if r["reason"] == "slow"])[-1]
    check("with figures", not refused["began"] and "the budget of 80.0 ms" in refused["text"],
          str(refused))
    for kind, text in (("points-lost", "slow at member db"), ("slow-member", "with member db a hold")):
        told = events(c, web, kind)
        check(f"event {kind}", told and text in told[-1]["text"], str(told))

    step("it does not wait any more: the next trial is a point")
    check("status 0", db.process.stop() == 0, db.process.text()[-500:])
    db.switches = []
    db.start()
    full = c.wait_points("with db again", 2, 60)
    check("full", all(p["label"] == "full" for p in full.values()), str(full))
    check("it is not slow", not holds_of(web, "db")["slow"] and member(web)["points"] == "group",
          str(member(web)))


PARTS = {"missing": missing, "partial": partial, "slow": slow}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    sys.exit(run_part(PARTS[sys.argv[1]], Cluster(["web", "db", "app"])))
