# SPDX-License-Identifier: Apache-2.0
"""What every nemesis has in common: one chain of writes that goes over all disks of a cluster, notes
of what happened when, and the judgement of every point that was published meanwhile.

Step n of the chain is issued when step n - 1 was acknowledged, on whatever machine, so a point that
has a step has all before it. What the guest felt is told beside what a control in this same process
felt, which waits and writes as the guest does but to no tap: a guest may wait for as long as the
group's holds last, and beyond that only for what this machine did to everybody at that time."""
import collections
import os
import subprocess
import threading
import time

from chain import BLOCK, PAUSE_S, Chain
from cluster import BEGAN, GROUP, HOLD_MAX_MS, Failed, check, run_part, step, wait_until

WAIT_S = 90  # for anything that the machine must do: it may stall for many seconds under load
# Who must be woken one after the other for one held write: the tap's thread by the request, and
# again by the end of the hold, which a third has to notice; then the guest. Each may come late.
WAKES = 4
CONTROL_SIZE = 16 << 20
SYNC_S = 0.2  # between two syncs of the control's file
NEAR_S = 1.0  # what the control felt so long before and after a slow write counts for it


class Control(threading.Thread):
    """How late this process wakes up, and how long a write takes to a file that is preallocated, written
    round and round, and synced beside it, as a tap's log is."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.late = []  # (when, by how much)
        self.ending = False

    def run(self):
        with open(self.path, "wb", buffering=0) as f:
            os.posix_fallocate(f.fileno(), 0, CONTROL_SIZE)
            threading.Thread(target=self._sync, args=(os.dup(f.fileno()),), daemon=True).start()
            at = 0
            while not self.ending:
                begun = time.monotonic()
                time.sleep(PAUSE_S)
                os.pwrite(f.fileno(), bytes(BLOCK), at)
                at = (at + BLOCK) % CONTROL_SIZE
                now = time.monotonic()
                self.late.append((now, now - begun - PAUSE_S))

    def _sync(self, fd):
        while not self.ending:
            os.fdatasync(fd)
            time.sleep(SYNC_S)
        os.close(fd)

    def worst(self, begin=0.0, end=float("inf")):
        """At that time, with what lay near it."""
        return max((by for at, by in self.late if begin - NEAR_S <= at <= end + NEAR_S), default=0.0)


class Scene:
    def __init__(self, c):
        self.c = c
        self.chain = Chain(c.disks)
        self.control = Control(c.path("control"))
        self.rounds = {}  # (round, reason, member) -> what a participant said of it
        self.points = {}  # point -> when it was first seen
        self.told = []  # (seconds, text): the timeline
        self.injected_ms = {}  # index of a disk -> what the nemesis itself adds to a write of it
        self.takes_notes = True
        self.notes = threading.Thread(target=self._note, daemon=True)

    def say(self, text):
        """A step of the story, and a line of the timeline."""
        step(text)
        self.told.append((time.monotonic() - BEGAN, text))

    def _note(self):
        """Each participant tells its last rounds only: they are looked at often."""
        while self.takes_notes:
            for p in self.c.participants:
                try:
                    for r in p.status()["rounds"]:
                        self._round(r, p)
                except (Failed, subprocess.TimeoutExpired):
                    pass  # stopped, by the nemesis
            try:
                for k, point in self.c.points().items():
                    if k not in self.points:
                        self.points[k] = point
                        self.told.append((time.monotonic() - BEGAN,
                                          f"  point {k[:12]} {point['label']}"))
            except (Failed, subprocess.TimeoutExpired):
                pass
            time.sleep(0.3)

    def _round(self, r, by):
        key = (r["round"], r["reason"], r["member"])
        if key not in self.rounds:
            said = "sealed" if r["sealed"] else f"{r['reason']} at {r['member']}: {r['text']}"
            self.told.append((time.monotonic() - BEGAN,
                              f"  round {r['round'][:12]} {said} ({by.name} says so)"))
        self.rounds[key] = r

    def timeline(self):
        return "\n".join(f"  {at:5.1f} s  {text}" for at, text in sorted(self.told))

    def start(self, *switches, chain=True):
        self.c.start(*switches)
        self.c.wait_points("at the start", 2, WAIT_S, {})
        self.control.start()
        self.notes.start()
        if chain:
            self.chain.start()
        self.say("points; the chain begins" if chain else "points")

    def leader(self, of):
        return of.status()["members"][0]["leader"]

    def recovers(self, text):
        """Points of all members come again, with nobody touching anything."""
        before = self.c.points()

        def new():
            try:
                return {k for k, p in self.c.points().items() if p["label"] == "full"} - set(before)
            except (Failed, subprocess.TimeoutExpired):
                return ()
        wait_until(f"full points again, {text}", WAIT_S, lambda: len(new()) >= 2)
        self.say(f"full points again, {text}")

    def fails(self, what, reasons, member, of=None, text=""):
        """A round fails or is not begun, from now on, with one of these reasons at that member, or
        with a text that names it."""
        of = of or self.c.participants[0]
        known = {(r["round"], r["time"]) for r in of.status()["rounds"]}

        def failed():
            return next((r for r in of.status()["rounds"] if (r["round"], r["time"]) not in known and
                         r["reason"] in reasons and text in r["text"] and
                         (r["member"] == member or f"; {member} " in r["text"])), None)
        found = wait_until(f"{what}: a round fails with {'/'.join(reasons)} at {member}", WAIT_S, failed)
        self.say(f"{what}: {found['reason']} at {found['member']}: {found['text']}")
        return found

    def lost_rounds(self):
        """What the far side says of rounds that began and became no point, whoever led them."""
        answer = self.c.command("point", "list", "--failed", GROUP, "--local",
                                self.c.coordinator_local)
        return {r["round"]: f"{r['reason']} at {r['member']}"
                for r in (answer["rounds"] if isinstance(answer, dict) else answer)}

    def failed_rounds(self):
        """By the leaders' words, and by the streams'."""
        told = collections.Counter(
            f"{r['reason']} at {r['member']}" for r in self.rounds.values() if r["reason"] != "none")
        lost = collections.Counter(self.lost_rounds().values())
        return f"{dict(told) or 'none'}; by the streams: {dict(lost) or 'none'}"

    def end_notes(self):
        self.control.ending = True
        self.takes_notes = False
        self.notes.join(20)
        self.control.join(20)

    def judge(self):
        """Ends the chain and exports every point; returns those that are torn."""
        self.chain.end()
        self.end_notes()
        for p in self.c.participants:
            for d in p.disks:
                wait_until(f"no hold is left at {p.name}/{d.name}, but for a round under way", WAIT_S,
                           lambda p=p, d=d: not p.disk(d.name)["holding"])
        points = list(self.c.points().values())
        torn = self.chain.judge(self.c, points)
        self.say(f"{len(self.chain.where) - 1} steps; {len(points)} points judged, {len(torn)} torn; "
                 f"rounds failed: {self.failed_rounds()}")
        self._felt()
        return torn

    def _felt(self):
        chain = self.chain
        errors = "; ".join(f"{n} x {text} of {self.c.disks[disk].member}"
                           for (disk, text), n in chain.errors.items())
        self.say(f"the guest felt: slowest writes {' '.join(f'{t * 1000:.1f}' for t in chain.slowest)} ms "
                 f"(hold-max {HOLD_MAX_MS} ms, the control {self.control.worst() * 1000:.1f} ms" +
                 "".join(f", injected into {self.c.disks[disk].member} {ms} ms"
                         for disk, ms in self.injected_ms.items()) + ")" +
                 (f"; longest outage {chain.outage * 1000:.0f} ms" if chain.outage else "") +
                 (f"; errors: {errors}" if errors else ""))
        for disk, begin, end in chain.slow:
            self.told.append((begin - BEGAN, f"  a write of {self.c.disks[disk].member} begins, and takes "
                                             f"{(end - begin) * 1000:.0f} ms"))
        for disk, begin, end in chain.slow:
            late = self.control.worst(begin, end) * 1000
            bound = HOLD_MAX_MS + self.injected_ms.get(disk, 0) + WAKES * late
            check("no hold outlives its budget", (end - begin) * 1000 <= bound,
                  f"{self.c.disks[disk].member}: {(end - begin) * 1000:.1f} ms, more than {bound:.1f} ms "
                  f"(the control was {late:.1f} ms late)")

    def all_hold(self):
        torn = self.judge()
        check("no point is torn", not torn, "\n".join(torn))


def play(part, cluster):
    """Runs a part; when it fails, its timeline comes with it. Returns the exit status."""
    def whole(c):
        scene = Scene(c)
        try:
            part(scene)
        except BaseException:
            print(f"timeline:\n{scene.timeline()}")
            raise
    return run_part(whole, cluster)
