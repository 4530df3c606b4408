#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A tap is stopped, killed and started anew under QEMU's block layer, and the writer behind it sees
a pause, never an error.

The listening socket is the test's, as systemd's is in production: each tap gets it as LISTEN_FDS.
In front of the tap stands QEMU's NBD client with reconnect-delay (qemu-nbd: the block layer of a
virtual machine without the machine). Three writers check every reply; TIDE_SEED repeats a run."""
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cluster import Failed, Nbd, Process, wait_until  # noqa: E402

SIZE = 24 << 20
WRITERS = 3
REGION = SIZE // WRITERS
RECONNECT_S = 60


class Writer(threading.Thread):
    """Writes and flushes in a region of its own; keeps what must be there. The first error ends it."""

    def __init__(self, path, number, seed):
        super().__init__(daemon=True)
        self.nbd = Nbd(path)
        self.nbd.s.settimeout(RECONNECT_S)
        self.at = number * REGION
        self.random = random.Random(f"{seed} {number}")
        self.region = bytearray(REGION)
        self.done = 0
        self.flushed = 0
        self.longest = 0.0
        self.error = None
        self.ending = False

    def run(self):
        try:
            while not self.ending:
                self.one()
            self.nbd.flush()
        except (OSError, Failed) as error:
            self.error = error

    def one(self):
        size = self.random.choice([512, 4096, 4096, 65536, 1 << 20])
        offset = self.random.randrange(0, REGION - size + 1, 512)
        data = self.random.randbytes(512) * (size // 512)
        began = time.monotonic()
        self.nbd.write(self.at + offset, data)
        self.region[offset:offset + size] = data
        self.done += 1
        if self.done % 4 == 0:
            self.nbd.flush()
            self.flushed += 1
        if self.done % 16 == 0 and self.nbd.read(self.at + offset, size) != data:
            raise Failed(f"write {self.done} reads back differently")
        self.longest = max(self.longest, time.monotonic() - began)

    def end(self):
        self.ending = True
        self.join(RECONNECT_S)
        self.nbd.close()


class Rig:
    def __init__(self):
        self.build = os.environ["TIDE_BUILD"]
        self.base = tempfile.mkdtemp(prefix="tide-qemu-")
        self.image = self.path("image")
        self.log = self.path("log")
        with open(self.image, "wb") as f:
            f.truncate(SIZE)
        self.listener = socket.socket(socket.AF_UNIX)  # outlives every tap
        self.listener.bind(self.path("nbd"))
        self.listener.listen(16)
        self.tap = None
        self.taps = 0
        self.qemu = None

    def path(self, name):
        return os.path.join(self.base, name)

    def start_tap(self):
        """The least socket activation there is: file descriptor 3, LISTEN_FDS, LISTEN_PID."""
        number = self.listener.fileno()
        self.taps += 1
        arguments = ["nbdkit", "-f", "-t", "16", f"{self.build}/bin/nbdkit-tidemark-plugin.so",
                     f"disk={self.image}", f"log={self.log}", f"control={self.path('control')}",
                     "log-size=1G", "copy-rate=0"]
        self.tap = Process(f"tap {self.taps}", [
            "bash", "-c", f'exec 3<&{number}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "tap",
            *arguments], self.path("tap.out"), pass_fds=(number,))

    def start_qemu(self):
        self.qemu = Process("qemu-nbd", [
            "qemu-nbd", "-k", self.path("qemu"), "-t", "-e", WRITERS, "--cache=none", "--image-opts",
            f"driver=nbd,server.type=unix,server.path={self.path('nbd')},"
            f"reconnect-delay={RECONNECT_S}"], self.path("qemu.out"))
        wait_until(f"qemu-nbd: {self.qemu.text()}", 15, lambda: os.path.exists(self.path("qemu")))

    def records(self):
        """All records of the log, which hrl check finds good; it never wraps here."""
        files = sorted(os.path.join(self.log, n) for n in os.listdir(self.log)
                       if n.startswith("ring-"))
        shown = None
        for verb in ("check", "show"):
            done = subprocess.run(
                [os.path.join(self.build, "bin", "tidemark"), "hrl", verb, "-o", "json", *files],
                timeout=60, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failed(f"hrl {verb}: {done.stdout[-500:]} {done.stderr[-500:]}")
            shown = json.loads(done.stdout)
        return [record for file in shown for record in file["records"]]

    def close(self):
        for process in (self.qemu, self.tap):
            if process is not None:
                process.kill()
        self.listener.close()
        shutil.rmtree(self.base, ignore_errors=True)


def alive(writers):
    for w in writers:
        if w.error is not None:
            raise Failed(f"a writer saw an error after {w.done} writes: {w.error!r}")


def progress(writers, what):
    """Every writer gets further by some writes: not just one reply that was still on its way."""
    before = [w.done for w in writers]

    def further():
        alive(writers)
        return all(w.done >= n + 8 for w, n in zip(writers, before))
    wait_until(f"writes go on {what}", RECONNECT_S, further)


def interrupt(rig, writers, number, rounds):
    for i in range(rounds):
        progress(writers, f"before {signal.Signals(number).name} {i + 1}")
        rig.tap.child.send_signal(number)
        status = rig.tap.child.wait(20)
        if status != (0 if number == signal.SIGTERM else -number):
            raise Failed(f"the tap ended with status {status}: {rig.tap.text()[-1000:]}")
        # Without a tap QEMU is back already, in the backlog of the socket that outlives taps.
        wait_until("QEMU connects to a socket that nobody accepts on", RECONNECT_S,
                   lambda: select.select([rig.listener], [], [], 0)[0])
        alive(writers)
        rig.start_tap()
        progress(writers, f"after {signal.Signals(number).name} {i + 1}")


def judge(records, rounds):
    """One stream without hole or gap: an attach for each tap, clean but after kill -9."""
    for due, record in enumerate(records, 1):
        if record["lsn"] != due:
            raise Failed(f"a hole in the stream: {record} where LSN {due} is due")
        if record["type"] in ("gap", "unknown"):
            raise Failed(f"a gap in the stream: {record}")
    attaches = [" clean" in r["detail"] for r in records if r["type"] == "attach"]
    if attaches != [True] * (1 + rounds) + [False] * rounds:
        raise Failed(f"attaches, clean or not: {attaches}")


def run(rig, seed, rounds):
    rig.start_tap()
    rig.start_qemu()
    writers = [Writer(rig.path("qemu"), i, seed) for i in range(WRITERS)]
    for w in writers:
        w.start()
    interrupt(rig, writers, signal.SIGTERM, rounds)
    interrupt(rig, writers, signal.SIGKILL, rounds)
    for w in writers:
        w.end()
    alive(writers)
    if rig.qemu.stop() != 0:
        raise Failed(f"qemu-nbd: {rig.qemu.text()[-1000:]}")
    if rig.tap.stop() != 0:
        raise Failed(f"tap: {rig.tap.text()[-1000:]}")
    with open(rig.image, "rb") as f:
        image = f.read()
    for i, w in enumerate(writers):
        if image[i * REGION:(i + 1) * REGION] != w.region:
            raise Failed(f"the image is not what writer {i} wrote")
    print(f"{sum(w.done for w in writers)} writes, {sum(w.flushed for w in writers)} flushes, "
          f"{rig.taps} taps, longest pause {max(w.longest for w in writers):.2f} s", flush=True)
    judge(rig.records(), rounds)


def main():
    seed = int(os.environ.get("TIDE_SEED", "1"))
    rounds = int(os.environ.get("TIDE_ROUNDS", "2"))
    rig = Rig()
    try:
        run(rig, seed, rounds)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"FAILED (TIDE_SEED={seed}): {error}")
        for process in (rig.tap, rig.qemu):
            if process is not None:
                print(f"--- {process.name}\n{process.text()[-2000:]}")
        return 1
    finally:
        rig.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
