#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: three daemons, six taps, a coordinator, all real; what breaks is broken by kill.

  daemon.py run       one cluster through every fault, in order; each step must recover by itself
  daemon.py unheld    hold switched off: bookmarks say so, points are unaligned
  daemon.py epochs    policy and definition change under way: a member leaves and comes back
  daemon.py disks     a disk is added to a member and removed again, online; old points stay what they were
  daemon.py kills     kill -9 at random under load for some 20 s, then the replica is the source, byte
                      by byte; TIDE_SEED=n repeats the order of the kills
  daemon.py stream    a tap comes back with another stream, or with an older log
  daemon.py copy      a disk that holds data joins: points after its copy, and they are right
  daemon.py full      the file system under a log is full: production goes on (needs root)
  daemon.py renew     certificates are renewed under running daemons, by SIGHUP; no round is lost
  daemon.py config    wrong configuration files: file, line, what was expected
"""
import errno
import json
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Disk, Failed, Nbd, Writer, check, run_part, step, wait_until  # noqa: E402

MEMBERS = ["web", "db", "app"]


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
        done = cluster.tidemark("hrl", "check", "--master-key", cluster.master_key, *[os.path.join(segments, n) for n in names])
        check("hrl check", done.returncode == 0, done.stderr + done.stdout)


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


def marked_point(c, text):
    """A point while nobody writes, and what each disk held then."""
    held = {}
    for p in c.participants:
        for d in p.disks:
            nbd = Nbd(d.socket)
            nbd.write(1 << 20, f"{text} of {p.name}/{d.name}".encode().ljust(4096, b"."))
            nbd.write(len(text) * 8192, os.urandom(8192))
            nbd.flush()
            held[d] = nbd.read_all()
            nbd.close()

    def taken():
        answer = c.participants[0].take("stored", 15)
        return answer if answer.get("stored") and answer.get("label") == "full" else None
    return wait_until(f"a point: {text}", 30, taken)["round"], held


def of_disks(points, count):
    return [p for p in points.values()
            if p["label"] == "full" and sum(len(m["disks"]) for m in p["members"]) == count]


def disk_set(c):
    web = c.participants[0]
    c.start()
    taps = [d.tap for d in c.disks]
    marks = [marked_point(c, "two disks")]
    writers = [Writer(d) for d in c.disks]
    for w in writers:
        w.start()
    c.wait_points("of two disks", 1, 15, {})

    def changed(text, count):
        """participant.ini is edited, its daemon started anew, the group applied: points go on."""
        step(text)
        web.write_config()
        check("status 0", web.process.stop() == 0, web.process.text()[-500:])
        web.start()
        c.apply_group()
        before = c.points()
        wait_until(f"points of {count} disks", 30, lambda: of_disks(
            {k: p for k, p in c.points().items() if k not in before}, count))
        check("taps kept running", all(t.running() for t in taps))

    extra = Disk(c, "web", "extra", size=4 << 20)
    with open(extra.image, "r+b") as f:
        f.write(os.urandom(1 << 20))
    extra.start()
    taps.append(extra.tap)
    web.disks.append(extra)
    changed("a third disk joins, with data on it", 3)
    for w in writers:
        w.end()
    marks.append(marked_point(c, "a third disk"))
    check("three disks", len(marks[-1][1]) == 3)
    writers = [Writer(d) for d in (*c.disks, extra)]
    for w in writers:
        w.start()
    web.disks.remove(extra)
    changed("the third disk leaves", 2)
    step("its tap ends; the others' streams are untouched by it")
    for w in writers:
        w.end()
    check("clean", extra.tap.stop() == 0, extra.tap.text()[-500:])
    taps.remove(extra.tap)
    marks.append(marked_point(c, "without it again"))
    for point, held in marks:
        for disk, source in held.items():
            check("an old point is what it was", c.export(point, disk) == source,
                  f"{point} {disk.member}/{disk.name}")
    step(f"{len(marks)} points of three epochs exported: as they were")
    epochs_seen = [c.points()[point]["epoch"] for point, _ in marks]
    check("three epochs", len(set(epochs_seen)) == 3, str(epochs_seen))
    no_fork(c)


class Load(threading.Thread):
    """Writes, zeroes and trims anywhere, and flushes; goes on after the tap does."""

    def __init__(self, disk, seed):
        super().__init__(daemon=True)
        self.disk = disk
        self.random = random.Random(f"{seed} {disk.member} {disk.name}")
        self.count = 0
        self.ending = False

    def one(self, nbd):
        size = self.random.choice([512, 4096, 4096, 65536, 200001])
        offset = self.random.randrange(0, nbd.size - size)
        what = self.random.randrange(12)
        if what == 0:
            nbd.trim(offset, size)
        elif what == 1:
            nbd.zero(offset, size)
        elif what == 2:
            nbd.flush()
        else:
            nbd.write(offset, self.random.randbytes(size))
        self.count += 1

    def run(self):
        nbd = None
        while not self.ending:
            try:
                nbd = nbd or Nbd(self.disk.socket)
                self.one(nbd)
            except (OSError, Failed):
                if nbd is not None:
                    nbd.close()
                nbd = None
                time.sleep(0.02)
            time.sleep(0.004)

    def end(self):
        self.ending = True
        self.join(20)


def kill_some(c, rng, killed):
    victims = rng.sample([("tap", d) for d in c.disks] + [("daemon", p) for p in c.participants] +
                         [("coordinator", c)], rng.choice([1, 1, 2, 3]))
    for kind, victim in victims:
        process = {"tap": lambda v: v.tap, "daemon": lambda v: v.process,
                   "coordinator": lambda v: v.coordinator}[kind](victim)
        check(f"{process.name} ran until it was killed", process.running(), process.text()[-500:])
        process.kill()
        killed[kind] = killed.get(kind, 0) + 1
    time.sleep(rng.random() * 0.3)
    rng.shuffle(victims)
    for kind, victim in victims:
        if kind == "coordinator":
            victim.start_coordinator()
        else:
            victim.start()


def kills(c):
    seed = int(os.environ.get("TIDE_SEED", "20004"))
    step(f"TIDE_SEED={seed}")
    rng = random.Random(seed)
    c.start()
    loads = [Load(d, seed) for d in c.disks]
    for load in loads:
        load.start()
    killed = {}
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(rng.random() * 0.8)
        kill_some(c, rng, killed)
    for load in loads:
        load.end()
        check("it wrote", load.count > 100, load.disk.name)
    step(f"killed {killed}; {sum(load.count for load in loads)} requests answered")
    for p in c.participants:
        for d in p.disks:
            wait_until(f"{p.name}/{d.name} is whole", 30, lambda p=p, d=d: p.disk(d.name)["whole"])
    point, held = marked_point(c, "after the kills")
    for disk, source in held.items():
        with open(disk.image, "rb") as f:
            check("the image is what the tap serves", f.read() == source, disk.name)
        check("the replica is the source", c.export(point, disk) == source,
              f"{disk.member}/{disk.name}")
    step("the replica is the source, byte by byte")
    no_fork(c)
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
    step("an older log behind the same image: the tap sees it by itself, or is told; points return")
    disk.tap.kill()
    shutil.copytree(disk.folder, disk.folder + ".old")
    before = web.disk("data")["stream"]
    stored = web.disk("data")["stored_lsn"]
    disk.start()
    wait_until("more is stored", 15, lambda: web.disk("data")["stored_lsn"] > stored + 3)
    disk.tap.kill()
    shutil.rmtree(disk.folder)
    os.rename(disk.folder + ".old", disk.folder)
    disk.start()
    wait_until("another stream", 20, lambda: web.disk("data")["stream"] not in ("", before))
    wait_until("a point of epoch 3", 30, lambda: any(
        p["epoch"] == 3 and p["label"] == "full" for p in c.points().values()))
    no_fork(c)


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
    answer = wait_until("the members hear each other", 15, lambda: (
        lambda a: a if a["reason"] not in ("missing", "no-definition", "no-leader") else None)(
            c.participants[1].take()))
    check("no round yet", not answer["sealed"] and answer["reason"] == "not-whole" and
          answer["member"] == "web" and "base" in answer["text"], json.dumps(answer))
    check("no point yet", not c.points())
    nbd = Nbd(disk.socket)
    for i in range(40):  # beside it, where it was and where it still comes
        nbd.write(i * (512 << 10), struct.pack("<Q", i + 1) * 512)
    step("points begin at its end")
    wait_until("whole", 20, lambda: web.disk("data")["whole"])
    def read_events():
        return c.command("events", "--local", web.local)["events"]
    wait_until("the end of the copy is an event", 10,
               lambda: any(e["type"] == "copy-ended" for e in read_events()))
    events = read_events()
    own = [e["type"] for e in events if e["member"] == "web" and e["disk"] == "data"
           and not e["type"].startswith("shipping")]
    check("events tell it", own == ["attached", "gap", "copy-begun", "whole", "copy-ended"],
          str(own))
    rounds = [e for e in events if e["type"].startswith("round-") and "not-whole" in e["text"]]
    check("refused rounds count up", rounds and max(e["count"] for e in rounds) > 1,
          json.dumps(rounds))
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


def shown(address):
    """The certificate that a server shows, in DER; it refuses us, who have none, after that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        with context.wrap_socket(plain) as wrapped:
            return wrapped.getpeercert(binary_form=True)


def renew(c):
    c.start()
    c.wait_points("at the start", 2, 15, {})
    failed = [p.status()["rounds_failed"] for p in c.participants]

    step("every certificate is renewed; rounds go on, none fails, points appear")
    files = [(p.process, p.address, "participant", p.name, c.path(f"pki/{p.name}"))
             for p in c.participants]
    files.append((c.coordinator, c.coordinator_address, "coordinator", "main",
                  c.path("pki/coordinator")))
    for process, address, role, name, prefix in files:
        old = shown(address)
        c.reissue(role, name, prefix)
        new = ssl.PEM_cert_to_DER_cert(open(prefix + ".crt", encoding="ascii").read())
        check("the old one until it is told", old != new and shown(address) == old, name)
        process.hang_up("were read again")
        check("the new one", shown(address) == new, name)
    c.wait_points("with new certificates", 3, 15)

    step("a broken file is refused, the one of before stays")
    process, address, _, _, prefix = files[0]
    good, now = open(prefix + ".crt", encoding="ascii").read(), shown(address)
    c.write(prefix + ".crt", good[:200])
    process.hang_up("does not hold 1 to 4 certificates in PEM form; the certificate, key and CA of "
                    "before stay in use")
    check("still the new one", shown(address) == now)
    c.wait_points("with a broken file", 2, 15)
    check("no round failed", [p.status()["rounds_failed"] for p in c.participants] == failed,
          str(failed))

    step("who starts again is let in by those with the renewed one")
    c.write(prefix + ".crt", good)
    c.participants[1].process.kill()
    c.participants[1].start()
    c.wait_points("after a daemon was killed", 2, 20)


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
             "disks": (disk_set, MEMBERS[:2], ("data",)),
             "kills": (kills, MEMBERS[:2], ("data", "log")),
             "stream": (stream, MEMBERS[:2], ("data",)),
             "copy": (copy, MEMBERS, ("data",)), "full": (full_disk, ["web"], ("data",)), "config": (config, ["web"], ("data",)),
             "renew": (renew, MEMBERS[:2], ("data",))}
    part, members, disks = parts[sys.argv[1]]
    if part is full_disk and os.geteuid() != 0:
        print("skipped: a small tmpfs needs root")
        return 77
    c = Cluster(members, disks, **({"size": 26 << 20} if part is copy else {}))
    return run_part(part, c, story=part is not config)


if __name__ == "__main__":
    sys.exit(main())
