#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: `tidemark point verify` on what real taps, daemons and a coordinator made: every point
is attested by every member, judged from a copy that has segments, keys and definitions alone; and with one
segment taken away it says which disk lacks what. `tidemark store check` reads everything back.

  verify.py encrypted|plain"""
import json
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Cluster, Writer, check, run_part, wait_until  # noqa: E402

MEMBERS = ["web", "db", "app"]


def verify(c, folder, point):
    return c.tidemark("point", "verify", point, "--store", folder, "--ca", c.path("pki/ca.crt"),
                      *with_key(c))


def with_key(c):
    return ["--master-key", c.master_key] if c.master_key else []


def bare(c):
    """Segments, keys and definitions, without manifests and point objects."""
    folder = c.path("bare")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(c.path("store"), folder,
                    ignore=lambda _, names: [n for n in names if not n.endswith((".hrl", ".pb", ".box")) and
                                             ("." in n or n == "points")])
    return folder


def encrypted(c):
    """Nothing in the store can be read without the master key, and another one is told apart."""
    paths = [os.path.join(top, name) for top, _, names in os.walk(c.path("store")) for name in names]
    segments = [p for p in paths if p.endswith(".hrl")]
    for path in paths:
        with open(path, "rb") as f:
            data = f.read()
        check("a segment is a box", path not in segments or data[:8] == b"TIDEBOX\0", path)
        check("no record is in the clear", b"TIDESEG" not in data, path)
    done = c.tidemark("hrl", "check", *segments)
    check("without the master key", done.returncode == 6 and "no master key" in done.stderr,
          done.stderr)
    other = c.path("other.key")
    c.write(other, "00" * 32 + "\n")
    os.chmod(other, 0o600)
    done = c.tidemark("hrl", "check", "--master-key", other, *segments)
    check("another master key", done.returncode == 6 and "was wrapped with the master key" in
          done.stderr, done.stderr)
    os.chmod(other, 0o644)
    done = c.tidemark("hrl", "check", "--master-key", other, *segments)
    check("a master key that others may read", done.returncode == 3, done.stderr)


def changed(path, at, bit=1):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ bit]))


def store_check(c):
    """All of it is read back; what was changed, taken away or put in another's place is named."""
    done = c.tidemark("store", "check", "--local", c.coordinator_local)
    check("store check beside the coordinator", done.returncode == 0 and
          "read back: 0 of them bad" in done.stdout, done.stdout + done.stderr)
    used = json.loads(c.tidemark("store", "usage", "-o", "json", "--local",
                                 c.coordinator_local).stdout)
    check("usage", used["streams_count"] == len(c.disks) and 0 < used["stored_bytes"] and
          not used["read"], used)

    def judged(what, status, *words):
        done = c.tidemark("store", "check", "--store", folder, *with_key(c))
        check(what, done.returncode == status and all(w in done.stderr for w in words),
              f"{done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    for p in c.participants:
        p.process.stop()
    c.coordinator.stop()  # nothing comes to the store while it is copied
    folder = c.path("copy")
    shutil.copytree(c.path("store"), folder, ignore=shutil.ignore_patterns("*.tmp"))
    judged("a copy", 0)
    segments = sorted(os.path.join(top, name) for top, _, names in os.walk(folder)
                      for name in names if name.endswith(".hrl"))
    size = os.path.getsize(segments[0])
    changed(segments[0], size // 2)
    judged("a changed segment", 7, segments[0], *(["does not decrypt"] if c.master_key else []))
    changed(segments[0], size // 2)
    judged("changed back", 0)
    with open(segments[0], "r+b") as f:
        f.truncate(size - 1)
    judged("a cut segment", 7, segments[0])
    os.unlink(segments[0])
    judged("a segment is gone", 4, segments[0], "is gone")
    os.mkdir(segments[0])
    out = judged("a segment that cannot be read", 11, segments[0])
    check("all others are read all the same", "read back: 1 of them bad" in out, out)
    os.rmdir(segments[0])
    os.rename(segments[1], segments[0])
    judged("another in its place", 7, segments[0])
    shutil.rmtree(folder)
    shutil.copytree(c.path("store"), folder, ignore=shutil.ignore_patterns("*.tmp"))
    point = next(os.path.join(top, name) for top, _, names in os.walk(f"{folder}/points")
                 for name in names)
    with open(point, "r", encoding="ascii") as f:
        text = f.read()
    with open(point, "w", encoding="ascii") as f:
        f.write(re.sub(r'"lsn": ?\d+', '"lsn": 99999999', text, count=1))
    judged("a point that no stream reaches", 4, point, "99999999")
    c.start_coordinator()


def run(c):
    c.start()
    writers = [Writer(disk) for disk in c.disks]
    for writer in writers:
        writer.start()
    points = c.wait_points("attested ones", 3, 30, before={})
    for writer in writers:
        writer.end()

    def all_yes():
        folder = bare(c)
        said = {p: verify(c, folder, p) for p in points}
        return said if all(s.returncode == 0 for s in said.values()) else None
    said = wait_until("yes of every point", 20, all_yes)
    for point, s in said.items():
        check("verify", "attested  by 3 of 3" in s.stdout, f"{point}: {s.stdout}{s.stderr}")
    check("no point object is read", not os.path.exists(os.path.join(c.path("bare"), "points")))
    print(f"{len(said)} points: yes, each attested by 3 of 3")

    if c.master_key:
        encrypted(c)
    store_check(c)
    folder = bare(c)
    stream = next(d["stream"] for m in points[next(iter(points))]["members"] for d in m["disks"])
    names = sorted(n for n in os.listdir(f"{folder}/streams/{stream}/segments"))
    os.unlink(f"{folder}/streams/{stream}/segments/{names[0]}")
    s = verify(c, folder, next(iter(points)))
    check("a segment is missing", s.returncode == 1 and stream in s.stderr, s.stdout + s.stderr)
    print(s.stderr.strip())


if __name__ == "__main__":
    sys.exit(run_part(run, Cluster(MEMBERS, encrypted="plain" not in sys.argv)))
