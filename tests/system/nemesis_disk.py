# SPDX-License-Identifier: Apache-2.0
"""Nemeses of the disks: slow, failing and full ones. Parts of nemesis.py.

A library preloaded into app's or web's tap (tap_faults.c) makes its log or its image slow, or has it
answer EIO; small file systems are filled up. The guest must see no error but those of its image, the
round's reason must name the disk and its gap, and points must come back by themselves."""
import errno
import os
import subprocess

from cluster import check, wait_until
from scene import WAIT_S

DRAG_MS, CRAWL_MS = 20, 200  # of tap_faults.c, for each write and sync
# A write waits for the record before its own, then its own; its image's write; and a sync in between.
DRAGS = 4
SMALL_MIB = 48


class Faults:
    """What the preloaded library is ordered to do to a disk's tap."""

    def __init__(self, s, disk):
        self.s = s
        self.disk = disk
        self.path = s.c.path(f"fault-{disk.member}")
        s.c.wraps[f"tap-{disk.member}-{disk.name}"] = [
            "env", f"LD_PRELOAD={s.c.build}/tests/tap_faults.so", f"TIDE_FAULT={self.path}"]

    def order(self, text):
        self.s.say(f"{self.disk.member}: {text}")
        self.s.c.write(self.path + ".new", text)
        os.rename(self.path + ".new", self.path)

    def end(self):
        self.s.say(f"{self.disk.member}: nothing is wrong any more")
        os.unlink(self.path)

    def count(self):
        return os.path.getsize(self.path + ".count") if os.path.exists(self.path + ".count") else 0


def slow_disk(s):
    c = s.c
    web, app = c.participants[0], c.participants[2]
    faults = Faults(s, app.disks[0])
    s.start()
    s.injected_ms[2] = DRAGS * CRAWL_MS
    for what in ("ring-", "image"):
        known = {r["round"] for r in web.status()["rounds"]}
        steps = s.chain.where.count(2)
        faults.order(f"drag {what}")
        waited = wait_until("rounds go on", WAIT_S, lambda k=known: (
            lambda found: len(found) >= 3 and found)([
                r for r in web.status()["rounds"] if r["sealed"] and r["round"] not in k]))
        slow = [r["slowest_us"] for r in waited if r["slowest"] == "app"]
        check("production goes on", s.chain.where.count(2) > steps)
        if what == "ring-":
            check("the leader says for whom it waited", slow and max(slow) >= DRAG_MS * 1000, waited)
            s.say(f"the leader waited for app, {max(slow) / 1000:.1f} ms at most")
        faults.end()
    faults.order("crawl ring-")
    s.fails("no bookmark in time", ("timeout", "expired", "aborted", "seal"), "app")
    faults.end()
    s.recovers("the disks are quick")
    s.all_hold()


def failing_disk(s):
    c = s.c
    web, app = c.participants[0], c.participants[2]
    of_web, of_app = Faults(s, web.disks[0]), Faults(s, app.disks[0])
    s.chain.endures = True
    s.start()

    of_app.order("write ring-")
    s.fails("the log fails", ("not-whole",), "app", text="gap: log")
    disk = app.disk("data")
    check("status says so", disk["state"] == "not-logging" and disk["gap_reason"] == "log", disk)
    of_app.end()
    s.say("app's tap is started anew, as its message asks")
    app.disks[0].tap.stop()
    app.disks[0].start()
    s.recovers("the log works")
    check("the guest saw no error", not s.chain.errors, s.chain.errors)

    of_web.order("write image")
    s.fails("the image fails", ("not-whole",), "web", text="gap: image")
    of_web.end()
    s.recovers("the image works")
    seen = sum(s.chain.errors.values())
    check("the guest saw errors of its image alone", 0 < seen <= of_web.count() and
          {disk for disk, _ in s.chain.errors} == {0}, f"{s.chain.errors} of {of_web.count()}")
    s.say(f"the image gave {of_web.count()} errors, the guest saw {seen}")
    s.all_hold()


def small(c, name):
    """A small file system, full at the order."""
    where = c.path(name)
    os.makedirs(where)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", where], check=True)
    c.undo.append(lambda: subprocess.run(["umount", where], check=False))
    return where


def fill(where):
    with open(f"{where}/filler", "wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            try:
                while f.write(bytes(size)) > 0:
                    pass
            except OSError as e:
                check("no space", e.errno == errno.ENOSPC, e)


def full_disk(s):
    c = s.c
    web, app = c.participants[0], c.participants[2]
    logs, store = small(c, "logs"), small(c, "store")
    disk = app.disks[0]
    disk.folder = os.path.join(logs, "log")
    os.makedirs(disk.folder)
    app.state = os.path.join(logs, "state")
    app.write_config()
    s.chain.endures = True
    s.start()

    def rounds_go_on(what):
        known = {r["round"] for r in web.status()["rounds"]}
        found = wait_until(what, WAIT_S, lambda: (lambda new: len(new) >= 3 and new)(
            [r["round"] for r in web.status()["rounds"] if r["sealed"] and r["round"] not in known]))
        s.say(what)
        return set(found)

    s.say("no space where app's log and its daemon's state lie")
    fill(logs)
    late = rounds_go_on("rounds go on without space for the log")
    s.say("its tap and its daemon are killed and come back, still without space")
    disk.tap.kill()
    disk.start()
    app.process.kill()
    app.start()
    wait_until("attached again", WAIT_S, lambda: app.disk("data")["attached"])
    s.say(f"app is {app.disk('data')['state']} {app.disk('data')['why']}")
    os.unlink(f"{logs}/filler")
    s.recovers("app has space")
    wait_until("the rounds of that time are points", WAIT_S, lambda: late <= set(c.points()))

    s.say("no space where the coordinator's store lies")
    fill(store)
    late = rounds_go_on("rounds go on without space for the store")
    wait_until("the daemons say why", WAIT_S, lambda: "space" in web.disk("data")["error"])
    s.say(f"web says: {web.disk('data')['error']}")
    os.unlink(f"{store}/filler")
    wait_until("the rounds of that time are points", WAIT_S, lambda: late <= set(c.points()))
    s.recovers("the store has space")
    check("the guest saw no error", not s.chain.errors, s.chain.errors)
    s.all_hold()


PARTS = {"slow-disk": slow_disk, "failing-disk": failing_disk, "full-disk": full_disk}
