#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: a disk that is no longer whole becomes so again by itself, end to end: real taps,
daemons and a coordinator, beside a writer. After each, points return with nobody touching anything,
and the exported disk is the image byte by byte.

  resync.py overload   the far side is away for longer than the log lasts; also a kill meanwhile
  resync.py power      a power cut (another boot): the blocks are compared, and what differs is sent
  resync.py fork       a machine restored from a snapshot: its LSNs were used; a new stream
  resync.py resize     the disk grows and shrinks under everything; points of each size export so
  resync.py orders     tidemark disk status, resync, detach, replay, check, and the events"""
import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Nbd, Writer, check, run_part, step, wait_until  # noqa: E402

SIZE = 26 << 20
SLOT = 4096
SLOT_BOOT = 72


def fill(image):
    """Half of it data, half holes."""
    noise = os.urandom(1 << 20)
    with open(image, "r+b") as f:
        for i in range(SIZE >> 21):
            f.seek(i << 21)
            f.write(noise[i:] + noise[:i])


def start(c):
    for disk in c.disks:
        fill(disk.image)
    c.start()
    c.wait_points("after the initial copies", 1, 30, {})


def poke(disk, offset, data):
    """Behind the tap's back, as if the machine had written it before it lost its log."""
    fd = os.open(disk.image, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)


def exports(c, point, size=None):
    """The point's disk of web is the image of now (nobody writes)."""
    disk = c.disks[0]
    out = c.path("exported")
    if os.path.exists(out):
        os.unlink(out)
    done = c.tidemark("point", "export", point, "--vm", "web", "--disk", "data", "--to", out,
                      "--local", c.coordinator_local)
    check("export", done.returncode == 0, done.stderr + done.stdout)
    with open(out, "rb") as a, open(disk.image, "rb") as b:
        left, right = a.read(), b.read()
    check("the exported size", size is None or len(left) == size, f"{len(left)} {size}")
    check("sizes are the same", len(left) == len(right), f"{len(left)} {len(right)}")
    differs = [k for k in range(0, len(left), 4096) if left[k:k + 4096] != right[k:k + 4096]]
    check("byte by byte", not differs, f"differs at {differs[:8]}")


def take(c):
    """A point of now; a round may meet a hold of another or the duty limit."""
    def taken():
        answer = c.participants[0].take("stored", 15)
        return answer if answer.get("stored") else None
    answer = wait_until("a point is taken", 20, taken)
    check("full", answer["label"] == "full", json.dumps(answer))
    return answer["round"]


def end_equal(c, writers):
    for w in writers:
        w.end()
    exports(c, take(c))


def run_writers(c):
    writers = [Writer(d, 0.005) for d in c.disks]
    for w in writers:
        w.start()
    return writers


def events(c):
    answer = c.command("events", "--since", "0", "--local", c.participants[0].local)
    return answer["events"] if isinstance(answer, dict) else answer


def types(c):
    return [e["type"] for e in events(c) if e.get("disk") == "data"]


def overload(c):
    web = c.participants[0]
    disk = c.disks[0]
    start(c)
    writers = run_writers(c)
    shipped = web.disk("data")["shipped_bytes"]
    before = c.points()
    step("the coordinator is away, the log fills up")
    c.coordinator.stop()
    nbd = Nbd(disk.socket)
    wait_until("the log is full", 20,
               lambda: nbd.write(20 << 20, os.urandom(1 << 20)) or not web.disk("data")["logging"])
    nbd.write((5 << 20) - 2048, os.urandom(4096))  # past the log, over two blocks
    nbd.write(9 << 20, os.urandom(512))
    status = web.disk("data")
    check("status says why", status["gap_reason"] == "overflow" and not status["whole"],
          json.dumps(status))
    refused = c.participants[1].take()
    check("no point of it", not refused["sealed"] and "overflow" in refused["text"],
          json.dumps(refused))
    step("meanwhile the tap is killed: the map survives")
    nbd.close()
    disk.tap.kill()
    disk.start()
    nbd = Nbd(disk.socket)
    nbd.write(11 << 20, os.urandom(512))
    nbd.close()
    step("the coordinator is back: resync by the map, then points")
    c.start_coordinator()
    wait_until("whole again", 30, lambda: web.disk("data")["whole"])
    c.wait_points("after the overload", 2, 20, before)
    sent = web.disk("data")["shipped_bytes"] - shipped
    check("the log and what differs were sent, not the disk again", sent < 30 << 20, str(sent))
    end_equal(c, writers)


def another_boot(disk):
    """Both slots of the state name another boot, with a right checksum."""
    path = os.path.join(disk.folder, "state")
    isal = ctypes.CDLL("libisal.so.2")
    isal.crc32_iscsi.restype = ctypes.c_uint
    with open(path, "r+b") as f:
        for i in range(2):
            f.seek(i * SLOT)
            slot = bytearray(f.read(SLOT))
            slot[SLOT_BOOT] ^= 1
            slot[12:16] = bytes(4)
            crc = ~isal.crc32_iscsi(bytes(slot), SLOT, ctypes.c_uint(0xffffffff)) & 0xffffffff
            slot[12:16] = struct.pack("<I", crc)
            f.seek(i * SLOT)
            f.write(slot)


def power(c):
    web = c.participants[0]
    disk = c.disks[0]
    start(c)
    writers = run_writers(c)
    c.wait_points("beside the writers", 1, 15)
    step("power cut on web: the image kept what the log lost")
    disk.tap.kill()
    another_boot(disk)
    poke(disk, 13 << 20, b"kept by the image, lost by the log")
    poke(disk, 21 << 20, b"and here")
    shipped = web.disk("data")["shipped_bytes"]
    before = c.points()
    disk.start()
    status = wait_until("attached", 10, lambda: (lambda d: d if d["attached"] else None)(
        web.disk("data")))
    check("the gap has its name", status["gap_reason"] == "power", json.dumps(status))
    step("compared, mended, and points return")
    wait_until("whole again", 40, lambda: web.disk("data")["whole"])
    c.wait_points("after the power cut", 2, 20, before)
    sent = web.disk("data")["shipped_bytes"] - shipped
    check("not the disk was sent but what differs", sent < 8 << 20, str(sent))
    end_equal(c, writers)


def fork(c):
    web = c.participants[0]
    disk = c.disks[0]
    start(c)
    nbd = Nbd(disk.socket)
    nbd.write(0, b"before the snapshot" + bytes(493))
    nbd.flush()
    nbd.close()
    old_point = take(c)
    old = web.disk("data")["stream"]
    step("a snapshot of the whole machine is taken, it goes on, and is restored")
    disk.tap.stop()
    subprocess.run(["cp", "-a", os.path.dirname(disk.image), c.path("snapshot")], check=True)
    disk.start()
    writers = run_writers(c)
    c.wait_points("after the snapshot", 2, 20)
    for w in writers:
        w.end()
    web.process.stop()
    disk.tap.kill()
    shutil.rmtree(os.path.dirname(disk.image))
    subprocess.run(["cp", "-a", c.path("snapshot"), os.path.dirname(disk.image)], check=True)
    before = c.points()
    disk.start()
    writers = run_writers(c)
    web.start()
    step("the far side finds out; a new stream, a new epoch, and points return")
    wait_until("another stream", 40, lambda: web.disk("data")["stream"] not in ("", old))
    wait_until("whole", 40, lambda: web.disk("data")["whole"])
    c.wait_points("of the new stream", 2, 30, before)
    end_equal(c, writers)
    step("an old point is still there")
    done = c.tidemark("point", "export", old_point, "--vm", "web", "--disk", "data", "--to",
                      c.path("old"), "--local", c.coordinator_local)
    check("export of an old point", done.returncode == 0, done.stderr)
    with open(c.path("old"), "rb") as f:
        check("it is what it was", f.read(19) == b"before the snapshot")


def resize(c):
    disk = c.disks[0]
    web = c.participants[0]
    start(c)
    writers = run_writers(c)
    step("grown")
    os.truncate(disk.image, 40 << 20)
    done = c.tidemark("disk", "resize", "web", "data", "--local", web.local)
    check("resize", done.returncode == 0, done.stderr + done.stdout)
    nbd = Nbd(disk.socket)
    check("a client sees it", nbd.size == 40 << 20, str(nbd.size))
    nbd.write(39 << 20, os.urandom(1 << 20))
    nbd.close()
    c.wait_points("after it grew", 1, 15)
    for w in writers:
        w.end()
    large = take(c)
    exports(c, large, 40 << 20)
    step("shrunk, without a word to the tap")
    os.truncate(disk.image, 30 << 20)
    wait_until("seen", 15, lambda: web.disk("data")["size"] == 30 << 20)
    small = take(c)
    exports(c, small, 30 << 20)
    step("grown again: what was there is gone")
    os.truncate(disk.image, 44 << 20)
    wait_until("seen", 15, lambda: web.disk("data")["size"] == 44 << 20)
    exports(c, take(c), 44 << 20)
    step("restarts of everything; the old point has its old size")
    disk.tap.kill()
    disk.start()
    web.process.kill()
    web.start()
    c.coordinator.kill()
    c.start_coordinator()
    c.wait_points("after the restarts", 1, 20)
    exports(c, take(c), 44 << 20)
    done = c.tidemark("point", "export", large, "--vm", "web", "--disk", "data", "--to",
                      c.path("large"), "--local", c.coordinator_local)
    check("export", done.returncode == 0 and os.path.getsize(c.path("large")) == 40 << 20,
          done.stderr)


def orders(c):
    web = c.participants[0]
    disk = c.disks[0]
    disk.options = ["flush=log"]
    start(c)
    table = c.tidemark("disk", "status", "--local", web.local)
    check("status", table.returncode == 0 and "whole" in table.stdout, table.stdout + table.stderr)
    step("resync --compare: everything is looked at, nothing sent")
    before = c.points()
    done = c.tidemark("disk", "resync", "web", "data", "--compare", "--local", web.local)
    check("resync", done.returncode == 0, done.stderr + done.stdout)
    wait_until("whole again", 40, lambda: web.disk("data")["whole"])
    c.wait_points("after the comparison", 1, 20, before)
    step("events tell it")
    seen = types(c)
    check("events", "gap" in seen, str(seen))
    step("the image is guarded while its log was not replayed")
    nbd = Nbd(disk.socket)
    nbd.write(1 << 20, b"flushed into the log" + bytes(492))
    nbd.flush()
    nbd.close()
    disk.tap.kill()
    notes = True
    try:
        os.getxattr(disk.image, "user.tidemark")
    except OSError:
        notes = False
    done = c.tidemark("disk", "check", disk.image)
    check("check says no, or that it cannot know", done.returncode == (9 if notes else 14),
          f"{done.returncode} {done.stdout}{done.stderr}")
    poke(disk, 1 << 20, b"never arrived there!")
    done = c.tidemark("disk", "replay", disk.folder, disk.image, seconds=40)
    check("replay", done.returncode == 0, done.stderr + done.stdout)
    with open(disk.image, "rb") as f:
        f.seek(1 << 20)
        check("it is in the image", f.read(20) == b"flushed into the log")
    if notes:
        done = c.tidemark("disk", "check", disk.image)
        check("check says yes", done.returncode == 0, done.stdout + done.stderr)
    step("detached by order")
    disk.start()
    wait_until("attached", 10, lambda: web.disk("data")["attached"])
    done = c.tidemark("disk", "detach", "web", "data", "--local", web.local)
    check("detach", done.returncode == 0, done.stderr + done.stdout)
    check("it ends well", disk.tap.child.wait(15) == 0)
    done = c.tidemark("disk", "detach", "web", "data", "--local", web.local)
    check("no tap", done.returncode not in (0, 2), done.stdout)


def main():
    parts = {"overload": overload, "power": power, "fork": fork, "resize": resize,
             "orders": orders}
    part = parts[sys.argv[1]]
    return run_part(part, Cluster(["web", "db"], ("data",), size=SIZE))


if __name__ == "__main__":
    sys.exit(main())
