#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: three daemons, six taps, a coordinator, all real; what breaks is broken by kill.

  daemon.py run       one cluster through every fault, in order; each step must recover by itself
  daemon.py unheld    hold switched off: bookmarks say so, points are unaligned
  daemon.py epochs    policy and definition change under way: a member leaves and comes back
  daemon.py stream    a tap comes back with another stream, or with an older log
  daemon.py copy      a disk that holds data joins: points after its copy, and they are right
  daemon.py full      the file system under a log is full: production goes on (needs root)
  daemon.py config    wrong configuration files: file, line, what was expected
"""
import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Disk, Failed, Nbd, Writer, wait_until  # noqa: E402

MEMBERS = ["web", "db", "app"]


def check(what, condition, detail=""):
    if not condition:
        raise Failed(f"{what}: {detail}")


def full(points):
    return {k: p for k, p in points.items() if p["label"] == "full"}


def no_fork(cluster):
    for d in cluster.disks:
        status = next(p for p in cluster.participants if p.name == d.member).disk(d.name)
        folder = os.path.join(cluster.path("store"), "streams", status["stream"])
        lines = open(os.path.join(folder, "manifest.jsonl"), encoding="utf-8").read().splitlines()
        entries = [json.loads(line) for line in lines]
        check("no fork", not any(e["type"] == "fork" for e in entries), d.name)
        due = 1
        for e in entries:
            if e["type"] == "segment":
                check("the stream has no hole and nothing twice", e["first"] == due, f"{e} at {due}")
                due = e["last"] + 1
        segments = os.path.join(folder, "segments")
        names = sorted(n for n in os.listdir(segments) if n.endswith(".hrl"))
        done = cluster.tidemark("hrl", "check", *[os.path.join(segments, n) for n in names])
        check("hrl check", done.returncode == 0, done.stderr + done.stdout)


def step(text):
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def take_works(c, participant):
    answer = participant.take()
    check("take sealed", answer["sealed"], json.dumps(answer))
    answer = participant.take("stored", 15)
    check("take stored", answer["stored"] and answer["label"] == "full", json.dumps(answer))
    check("the taken point is listed", answer["round"] in c.points())


def run(c):
    web, db, app = c.participants
    c.start()
    writers = [Writer(d) for d in c.disks]
    for w in writers:
        w.start()
    step("points appear")
    first = c.wait_points("at the start", 2, 15, {})
    check("all points are full", first == full(first), str(first))
    check("points name all members", all(len(p["members"]) == 3 for p in first.values()))

    step("point take, on a member that does not lead")
    take_works(c, app)

    step("daemon killed and started again: the stream goes on")
    stored = db.disk("data")["stored_lsn"]
    db.process.kill()
    db.start()
    c.wait_points("after a daemon was killed", 2, 15)
    wait_until("shipping goes on", 10, lambda: db.disk("data")["stored_lsn"] > stored)
    no_fork(c)

    step("tap killed and started again: as whole as before")
    tap = app.disks[0]
    tap.tap.kill()
    wait_until("the daemon sees it", 5, lambda: not app.disk("data")["attached"])
    refused = app.take()
    check("no round without it", refused["status"] == 1 and refused["member"] == "app",
          json.dumps(refused))
    tap.start()
    wait_until("attached and whole", 10,
               lambda: app.disk("data")["attached"] and app.disk("data")["whole"])
    c.wait_points("after a tap was killed", 2, 15)

    step("coordinator stopped: bookmarks go on; started again: points appear")
    before = c.points()
    c.coordinator.stop()
    sealed = web.status()["rounds_sealed"]
    wait_until("rounds go on", 15, lambda: web.status()["rounds_sealed"] >= sealed + 2)
    check("status says why", "coordinator" in wait_until(
        "an error in status", 10, lambda: web.disk("data")["error"]))
    step("meanwhile a daemon and a tap are killed: the same cut is built again")
    stored = web.disk("data")["stored_lsn"]
    wait_until("a cut is decided", 10, lambda: web.disk("data")["cut_lsn"] > stored)
    web.process.kill()
    web.start()
    web.disks[0].tap.kill()
    web.disks[0].start()
    sealed = db.status()["rounds_sealed"]
    wait_until("rounds go on with kept definitions", 15,
               lambda: db.status()["rounds_sealed"] >= sealed + 2)
    c.start_coordinator()
    c.wait_points("taken while the coordinator was down", 4, 20, before)
    no_fork(c)

    step("coordinator killed: what it answered is there")
    c.coordinator.kill()
    c.start_coordinator()
    c.wait_points("after the coordinator was killed", 2, 20)
    no_fork(c)

    step("leader killed: the next leads; it comes back")
    leader = web.status()["members"][0]["leader"]
    check("the first in the order leads", leader == "web", leader)
    web.process.kill()
    wait_until("another leads", 10, lambda: db.status()["members"][0]["leader"] in ("db", "app"))
    wait_until("strict says who is missing", 10, lambda: any(
        r["member"] == "web" for r in db.status()["rounds"][-2:]))
    web.start()
    c.wait_points("after the leader came back", 2, 20)
    no_fork(c)

    step("all writes are there")
    for w in writers:
        w.end()
    for w in writers:
        nbd = Nbd(w.disk.socket)
        got = int.from_bytes(nbd.read((w.count - 1) % 256 * 4096, 8), "little")
        nbd.close()
        check("last write", got == w.count, f"{w.disk.member}/{w.disk.name}: {got} {w.count}")

    step("SIGTERM ends in bounded time")
    for p in c.participants:
        check("status 0", p.process.stop(6) == 0, p.process.text()[-500:])


def unheld(c):
    c.start("--unsafe-no-hold", "--test-hold-skew-ms", "5", "--test-seed", "7")
    web = c.participants[0]
    check("announced", "TEST SWITCH" in web.process.text(), web.process.text())
    switches = web.status()["switches"]
    check("in status", switches["unsafe_no_hold"] and switches["hold_skew_ms"] == 5, str(switches))
    points = c.wait_points("unaligned", 2, 15, {})
    check("all unaligned", all(p["label"] == "unaligned" for p in points.values()), str(points))
    answer = web.take()
    check("take says sealed", answer["sealed"], json.dumps(answer))


def epochs(c):
    c.start()
    c.wait_points("of epoch 1", 1, 15, {})
    everyone = c.participants
    web, db, _ = everyone

    def epoch(participants, number):
        return all(p.status()["members"][0]["epoch"] == number for p in participants)
    step("another policy is no new epoch")
    c.interval = "2s"
    c.apply_group()
    wait_until("the policy is known", 10, lambda: all(
        p.status()["members"][0]["interval_ms"] == 2000 for p in everyone))
    check("still epoch 1", epoch(everyone, 1))
    step("a member leaves")
    c.interval = "1s"
    c.participants = [web, db]
    c.apply_group()
    wait_until("epoch 2", 10, lambda: epoch([web, db], 2))
    check("it has none any more", not everyone[2].status()["members"][0]["defined"])
    points = c.wait_points("of two members", 1, 15)
    check("two members, full", all(p["label"] == "full" and len(p["members"]) == 2
                                   for p in points.values() if p["epoch"] == 2), str(points))
    step("it comes back")
    c.participants = everyone
    c.apply_group()
    wait_until("epoch 3", 10, lambda: epoch(everyone, 3))
    wait_until("a point of epoch 3", 15, lambda: any(
        p["epoch"] == 3 and len(p["members"]) == 3 for p in c.points().values()))


def stream(c):
    web, db = c.participants
    c.start()
    c.wait_points("of epoch 1", 1, 15, {})
    rpo = wait_until("nothing is owed", 10, lambda: (
        lambda d: d if d["rpo_ms"] == 0 else None)(web.disk("data")))
    check("in flight", rpo["in_flight"] == 0 and not rpo["limited"], json.dumps(rpo))
    table = c.tidemark("participant", "status", "--local", web.local)
    check("the table has it", "RPO" in table.stdout, table.stdout)
    step("coordinator away: what a loss would lose grows")
    c.coordinator.stop()
    wait_until("it grows", 10, lambda: (web.disk("data")["rpo_ms"] or 0) > 2000)
    c.start_coordinator()
    wait_until("it is shipped", 15, lambda: (web.disk("data")["rpo_ms"] or 9999) < 2000)
    step("the log folder is gone: another stream, which is registered; points return")
    disk = c.disks[0]
    before = web.disk("data")["stream"]
    disk.tap.kill()
    shutil.rmtree(disk.folder)
    os.makedirs(disk.folder)
    disk.start()
    wait_until("another stream", 10, lambda: web.disk("data")["stream"] not in ("", before))
    wait_until("epoch 2", 15, lambda: all(
        p.status()["members"][0]["epoch"] == 2 for p in (web, db)))
    wait_until("a point of epoch 2", 20, lambda: any(
        p["epoch"] == 2 and p["label"] == "full" for p in c.points().values()))
    check("no order was needed", web.disk("data")["restreams"] == 0)
    no_fork(c)
    step("an older log: the tap is told to begin another stream, and status says why")
    disk.tap.kill()
    shutil.copytree(disk.folder, disk.folder + ".old")
    stored = web.disk("data")["stored_lsn"]
    disk.start()
    wait_until("more is stored", 15, lambda: web.disk("data")["stored_lsn"] > stored + 3)
    disk.tap.kill()
    shutil.rmtree(disk.folder)
    os.rename(disk.folder + ".old", disk.folder)
    disk.start()
    status = wait_until("it is ordered", 20, lambda: (
        lambda d: d if d["restreams"] == 1 else None)(web.disk("data")))
    check("why", status["restream_reason"] != "", json.dumps(status))


def copy(c):
    web = c.participants[0]
    disk = c.disks[0]
    noise = os.urandom(1 << 20)
    with open(disk.image, "r+b") as f:  # 12 MiB of data, the rest a hole
        for i in range(12):
            f.seek(i * (2 << 20))
            f.write(noise[i:] + noise[:i])
    disk.options = ["copy-rate=6M"]
    c.start()
    step("while it is copied, rounds are refused, and status says why and how far")
    status = wait_until("the copy goes on", 10, lambda: (
        lambda d: d if d["copy_bytes"] > 0 and d["copy_rate"] > 0 else None)(web.disk("data")))
    check("not whole", not status["whole"] and status["gap_reason"] == "base", json.dumps(status))
    check("rate and time left", status["copy"] == "running" and status["copy_percent"] < 100 and
          status["copy_left_s"] is not None, json.dumps(status))
    table = c.tidemark("participant", "status", "--local", web.local)
    check("the table says it", "copy " in table.stdout and " s left" in table.stdout, table.stdout)
    answer = c.participants[1].take()
    check("no round yet", not answer["sealed"] and answer["reason"] == "not-whole" and
          answer["member"] == "web" and "base" in answer["text"], json.dumps(answer))
    check("no point yet", not c.points())
    nbd = Nbd(disk.socket)
    for i in range(40):  # beside it, where it was and where it still comes
        nbd.write(i * (512 << 10), struct.pack("<Q", i + 1) * 512)
    step("points begin at its end")
    wait_until("whole", 20, lambda: web.disk("data")["whole"])
    c.wait_points("after the copy", 1, 15)
    nbd.write(3 << 20, b"the last write" + bytes(498))
    nbd.flush()
    source = b"".join(nbd.read(at, 1 << 20) for at in range(0, nbd.size, 1 << 20))
    answer = web.take("stored", 15)
    check("taken", answer["stored"] and answer["label"] == "full", json.dumps(answer))
    nbd.close()
    step("the exported disk is the source")
    image = c.path("exported")
    done = c.tidemark("point", "export", answer["round"], "--vm", "web", "--disk", "data", "--to", image,
                      "--local", c.coordinator_local)
    check("export", done.returncode == 0, done.stderr + done.stdout)
    with open(image, "rb") as f:
        check("byte by byte", f.read() == source)
    no_fork(c)


def full_disk(c):
    """The tap's log on a small tmpfs: full before the ring is preallocated, or written to."""
    mount = c.path("small")
    os.makedirs(mount)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], check=True)
    try:
        small = Disk(c, "web", "small", size=32 << 20, log_size="8M", folder=f"{mount}/log")
        c.disks = [small]
        c.participants[0].disks[:] = [small]
        config = c.participants[0].config
        text = open(config, encoding="utf-8").read()
        c.write(config, text.replace("[disk shop/web/data]", "[disk shop/web/small]")
                .replace(f"tap = {c.path('web-data')}/control", f"tap = {small.control}"))
        c.start()
        c.wait_points("with room", 1, 15, {})
        web = c.participants[0]
        c.coordinator.stop()
        step("nothing can be shipped, no space is left: the log fills up")
        with open(f"{mount}/filler", "wb", buffering=0) as f:
            try:
                while f.write(bytes(65536)) > 0:
                    pass
            except OSError as e:
                check("no space", e.errno == errno.ENOSPC, str(e))
        nbd = Nbd(small.socket)
        for i in range(32):
            nbd.write(i << 20, bytes([i + 1]) * (1 << 20))
        nbd.flush()
        check("production went on", nbd.read(31 << 20, 4096) == bytes([32]) * 4096)
        nbd.close()
        disk = wait_until("not whole", 10, lambda: (lambda d: d if not d["whole"] else None)(
            web.disk("small")))
        check("status says why", disk["gap_reason"] != "", json.dumps(disk))
        answer = web.take()
        check("no point", not answer["sealed"] and answer["reason"] == "not-whole",
              json.dumps(answer))
        step("coordinator back: what the log has is shipped")
        c.start_coordinator()
        wait_until("shipped", 20, lambda: (lambda d: d["stored_lsn"] + 1 >= d["next_lsn"])(
            web.disk("small")))
        no_fork(c)
    finally:
        for process in c.processes:
            process.kill()
        subprocess.run(["umount", mount], check=False)


def config(c):
    good = open(c.participants[0].config, encoding="utf-8").read()
    cases = [
        ("unknown key", good.replace("state =", "stat ="), ":8: ", 'unknown key "stat"'),
        ("address", good.replace("listen = 127", "listen = web"), ":5: ", "listen"),
        ("role", good.replace("/coordinator/main", "/operator/main"), ":7: ", "coordinator"),
        ("section", good.replace("[member ", "[vm "), ":10: ", "unknown section"),
        ("member", good.replace("[disk shop/web/data]", "[disk shop/db/data]"), ":11: ",
         "[member shop/db]"),
        ("no tap", good.replace("tap =", "#tap ="), ":11: ", 'no key "tap"'),
        ("missing key", good.replace("ca = ", "; ca = "), ":1: ", 'no key "ca"'),
    ]
    path = c.path("wrong.ini")
    daemon = c.binary("tidemark-participant")
    for name, text, line, expected in cases:
        check(f"case {name} is one", text != good)
        c.write(path, text)
        done = c.run(daemon, "-c", path, "--check-config")
        check(f"status of {name}", done.returncode == 3, f"{done.returncode} {done.stderr}")
        check(f"text of {name}", path + line in done.stderr and expected in done.stderr, done.stderr)
    done = c.run(daemon, "-c", c.participants[0].config, "--check-config")
    check("the good one", done.returncode == 0 and "ok" in done.stdout, done.stderr)
    c.write(path, good.replace("ca.crt", "none.crt"))
    done = c.run(daemon, "-c", path)
    check("a file that is not there", done.returncode != 0 and "none.crt" in done.stderr,
          done.stderr)


def main():
    parts = {"run": (run, MEMBERS, ("data", "log")), "unheld": (unheld, MEMBERS[:2], ("data",)),
             "epochs": (epochs, MEMBERS, ("data",)),
             "stream": (stream, MEMBERS[:2], ("data",)),
             "copy": (copy, MEMBERS, ("data",)), "full": (full_disk, ["web"], ("data",)), "config": (config, ["web"], ("data",))}
    part, members, disks = parts[sys.argv[1]]
    if part is full_disk and os.geteuid() != 0:
        print("skipped: a small tmpfs needs root")
        return 77
    c = Cluster(members, disks, **({"size": 26 << 20} if part is copy else {}))
    try:
        part(c)
    except (Failed, OSError, subprocess.SubprocessError) as e:
        print(f"FAILED: {e}")
        if part is not config:
            print(c.story())
        return 1
    finally:
        c.close()
    step("passed")
    return 0


BEGAN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
