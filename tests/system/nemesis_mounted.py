# SPDX-License-Identifier: Apache-2.0
"""Nemeses under eight mounted file systems. A part of nemesis.py.

Each disk holds an ext4, which goes through its tap by nbdfuse and a loop device; `tidemark canary` lets
tokens go round over all of them, a step only when the one before was acknowledged. Each point taken
meanwhile is exported, its journals are replayed by mounting it, e2fsck finds nothing, and the canary
judges the files."""
import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time

from cluster import Failed, check, wait_until
from scene import WAIT_S

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
from quickstart import loop_attach, loops_below, mounts_below, unmount_used  # noqa: E402

SIZE = 32 << 20


def lacks():
    """What this needs and the machine has not, or None."""
    for tool in ("nbdfuse", "losetup", "mkfs.ext4", "e2fsck"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"there is no {device}"
    return None


def run(c, *arguments, statuses=(0,)):
    done = c.run(*arguments, seconds=60)
    if done.returncode not in statuses:
        raise Failed(f"{' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")


class Mounted:
    """A disk's file system, on what its tap serves."""

    def __init__(self, c, disk):
        self.c = c
        self.disk = disk
        self.base = c.path(f"fs-{disk.member}-{disk.name}")
        self.served, self.where = os.path.join(self.base, "nbd"), os.path.join(self.base, "mnt")
        self.fuse = self.device = None
        os.makedirs(self.where)
        run(c, "mkfs.ext4", "-q", "-F", "-J", "size=4", "-E",
            "lazy_itable_init=0,lazy_journal_init=0", disk.image)

    def attach(self):
        with open(self.served, "wb"):
            pass
        self.fuse = self.c.spawn(f"nbdfuse-{self.disk.member}-{self.disk.name}", [
            "nbdfuse", self.served, f"nbd+unix:///?socket={self.disk.socket}"])
        wait_until("nbdfuse serves it", WAIT_S, lambda: self.served in mounts_below(self.base) and
                   os.stat(self.served).st_size == SIZE)
        self.device = loop_attach(self.served, "--direct-io=on")
        run(self.c, "mount", self.device, self.where)

    def detach(self):
        """From the top down, and only while its tap lives."""
        if self.where in mounts_below(self.base):
            unmount_used(self.where)
        if self.device is not None:
            run(self.c, "losetup", "-d", self.device)
            wait_until("the loop device is free", WAIT_S, lambda: not loops_below(self.base))
        if self.served in mounts_below(self.base):
            unmount_used(self.served)


def sweep(base):
    """What a failure has left mounted, once nobody serves it any more."""
    for where in mounts_below(base):
        if not where.endswith("/nbd"):
            subprocess.run(["umount", "-l", where], timeout=30, check=False)
    for device in loops_below(base):  # found by what they lie on: that goes last
        subprocess.run(["losetup", "-d", device], timeout=30, check=False)
    for where in mounts_below(base):
        subprocess.run(["umount", "-l", where], timeout=30, check=False)


class Guest(threading.Thread):
    """How long a write to each file system takes: O_DIRECT, into a block that is there already."""

    def __init__(self, folders):
        super().__init__(daemon=True)
        self.folders = folders
        self.slowest = 0.0
        self.failed = None
        self.ending = False

    def run(self):
        block = mmap.mmap(-1, 4096)
        block.write(b"x" * 4096)
        try:
            files = []
            for folder in self.folders:
                with open(os.path.join(folder, "guest"), "wb") as f:
                    f.write(bytes(4096))
                    os.fsync(f.fileno())
                files.append(os.open(os.path.join(folder, "guest"), os.O_WRONLY | os.O_DIRECT))
            turn = 0
            while not self.ending:
                begun = time.monotonic()
                os.pwrite(files[turn % len(files)], block, 0)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                turn += 1
                time.sleep(0.001)
            for fd in files:
                os.close(fd)
        except OSError as e:
            self.failed = e

    def end(self):
        self.ending = True
        self.join(20)
        check("no write to a file failed", self.failed is None and not self.is_alive(), self.failed)


def judge_point(c, point, disks):
    """What the canary proves of the files of a point; Failed where it is torn or a disk is bad."""
    base = c.path("judged")
    where = []
    try:
        for disk in disks:
            image = os.path.join(base, f"{disk.member}-{disk.name}.img")
            os.makedirs(image + ".mnt", exist_ok=True)
            done = c.tidemark("point", "export", point, "--vm", disk.member, "--disk", disk.name,
                              "--to", image, "--local", c.coordinator_local, seconds=60)
            check("exported", done.returncode == 0, done.stderr)
            device = loop_attach(image)
            where.append((device, image))
            run(c, "mount", device, image + ".mnt")
        done = c.tidemark("canary", "check", "-o", "json", *[image + ".mnt" for _, image in where],
                          seconds=60)
        check(f"point {point} is consistent", done.returncode == 0, done.stdout + done.stderr)
        return json.loads(done.stdout)["steps_proven"]
    finally:
        for device, image in where:
            if image + ".mnt" in mounts_below(base):
                unmount_used(image + ".mnt")
            run(c, "e2fsck", "-f", "-n", device)
            run(c, "losetup", "-d", device)
            os.unlink(image)
            if os.path.exists(image + ".tidemark"):
                os.unlink(image + ".tidemark")


def under_nemeses(s, file_systems):
    c = s.c
    web, db, app, mail = c.participants
    log = c.path("canary.out")
    c.spawn("canary", [c.binary("tidemark"), "canary", "run", *[f.where for f in file_systems],
                       "--until-file", c.path("enough"), "--report", 1, "--seed", 20004,
                       "-o", "json"])
    canary = c.processes[-1]

    def lines():
        check("the canary runs", canary.running(), canary.text())
        return [json.loads(line) for line in open(log, encoding="utf-8") if line.endswith("}\n")]
    wait_until("its files are ready", WAIT_S, lines)
    guest = Guest([f.where for f in file_systems])
    guest.start()
    ready_ns = time.time_ns()
    s.say("the canary is ready")
    s.recovers("under the canary")
    s.say("the leader's daemon is killed")
    web.process.kill()
    wait_until("another leads", WAIT_S, lambda: s.leader(db) != "web")
    web.start()
    s.recovers("the leader is back")
    s.say("app and mail are cut off, from the others and the coordinator")
    c.cut_between(["app", "mail"], ["web", "db", "coordinator"])
    wait_until("they are missed", WAIT_S, lambda: web.status()["members"][0]["reach"] < 4)
    c.heal()
    s.recovers("all are reached")
    s.say("the coordinator is killed")
    c.coordinator.kill()
    c.start_coordinator()
    s.recovers("the coordinator is back")
    guest.end()
    c.write(c.path("enough"), "")
    wait_until("the canary ends", WAIT_S, lambda: not canary.running())
    check("the canary had no error", canary.child.returncode == 0, canary.text())
    s.say(f"the canary: {canary.text().strip().splitlines()[-1]}")
    s.say(f"the guest felt: slowest write to a file {guest.slowest * 1000:.1f} ms, the control "
          f"{s.control.worst() * 1000:.1f} ms")
    return [k for k, p in c.points().items() if p["wall_ns"] > ready_ns]


def mounted(s):
    c = s.c
    c.undo.append(lambda: sweep(c.base))
    file_systems = [Mounted(c, d) for d in c.disks]
    s.start(chain=False)
    for each in file_systems:
        each.attach()
    taken = under_nemeses(s, file_systems)
    for each in file_systems:
        each.detach()
    s.end_notes()
    steps = [judge_point(c, point, c.disks) for point in taken]
    s.say(f"{len(taken)} points of {len(c.disks)} file systems: journals replayed, e2fsck finds nothing, "
          f"{min(steps)} to {max(steps)} steps proven; rounds failed: {s.failed_rounds()}")
    check("points were judged", len(taken) >= 6)
    check("there were steps in them", max(steps) > 0)


PARTS = {"mounted": mounted}
