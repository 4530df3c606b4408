#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs Tidemark end to end on one machine; started by quickstart.sh, which builds first.

Three machines (a participant each, on its own loopback address) with two disks each, which hold a file
system with files before their taps start, so that they are copied first; one coordinator, a workload
of dependent writes over all six disks, a bookmark every second. Then only what arrived at the
coordinator is left, and every recovery point is exported, mounted and judged, the old files too. Then the same
without the hold, which must show torn points. Working files lie under build/quickstart.
"""

import argparse
import concurrent.futures
import fcntl
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

GROUP = "shop"
MEMBERS = [("web", "127.0.0.11:20004"), ("app", "127.0.0.12:20004"), ("db", "127.0.0.13:20004")]
DISKS = [("data", "ext4"), ("log", "xfs")]
COORDINATOR = "127.0.0.10:9443"
SITE = "quickstart"
DISK_MIB = 320
HOLD_MAX_MS = 80
POINTS = 20
RUN_SECONDS = 120
HELD_POINTS = 15
# What each disk holds before its tap starts, in its folder `before`.
OLD_FILES = {"notes.txt": 1234, "table": 1 << 20, "archive": 3 << 20}
# A socket's path has 107 characters at most, a checkout's any number: sockets are named through this
# link to the working folder. The fixed addresses allow one quickstart a machine anyway.
SOCKETS = "/run/tidemark-quickstart"
LOOP_CTL_GET_FREE = 0x4C82


class Failed(Exception):
    """A step that failed; log is a file whose end explains it."""

    def __init__(self, text, log=None):
        super().__init__(text)
        self.log = log


class Stopped(Exception):
    """SIGINT or SIGTERM."""


def on_signal(number, _frame):
    raise Stopped(signal.Signals(number).name)


START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:5.0f} s] {text}", flush=True)


class Live:
    """One line that is rewritten on a terminal; elsewhere a plain line at most every five seconds."""

    def __init__(self):
        self.tty = sys.stdout.isatty()
        self.last = 0.0

    def show(self, text):
        now = time.monotonic()
        if self.tty:
            print(f"\r\033[K{text}", end="", flush=True)
        elif now - self.last >= 5:
            self.last = now
            say(text)

    def end(self):
        if self.tty:
            print("\r\033[K", end="", flush=True)


def wait_for(what, seconds, condition, log=None, process=None):
    """Polls until condition() is true; fails at the deadline or when the process has ended."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if process is not None and process.poll() is not None:
            raise Failed(f"{what}: the process ended with status {process.returncode}", log)
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s", log)
        time.sleep(0.05)


def run(arguments, timeout=60, statuses=(0,), log=None):
    """Runs a command to its end; its standard output, and the exit status beside it."""
    try:
        done = subprocess.run([str(a) for a in arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              start_new_session=True, check=False)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"'{' '.join(map(str, arguments))}': not done within {timeout} s", log) from late
    except OSError as error:
        raise Failed(f"cannot run '{arguments[0]}': {error.strerror}", log) from error
    out = done.stdout.decode(errors="replace")
    if done.returncode not in statuses:
        text = (out + done.stderr.decode(errors="replace")).strip()
        raise Failed(f"'{' '.join(map(str, arguments))}' ended with status {done.returncode}:\n{text}",
                     log)
    return out, done.returncode


def tail(path, lines=20):
    try:
        with open(path, "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 65536))
            return b"\n".join(f.read().splitlines()[-lines:]).decode(errors="replace")
    except OSError:
        return "(no log)"


def write_file(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


# Processes, mounts and loop devices of ours, and taking them away again.

def start_time(pid):
    """Start time of a process in ticks: with it, a pid that was given anew is told apart. None where
    it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def mounts_below(folder):
    below = []
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            where = line.split()[1].replace("\\040", " ")
            if where.startswith(folder + "/"):
                below.append(where)
    return below[::-1]  # the latest first


def loops_below(folder):
    found = []
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8") as f:
                if f.read().strip().startswith(folder + "/"):
                    found.append("/dev/" + name)
        except OSError:
            continue
    return found


class Keeper:
    """Knows every process by pid in a file, so that a later run can end what an earlier one left."""

    def __init__(self, folder):
        self.folder = folder
        self.pids = os.path.join(folder, "pids")
        self.children = []
        self.lock = threading.Lock()

    def spawn(self, name, arguments, log):
        with open(log, "ab") as f:
            child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=f,
                                     stderr=subprocess.STDOUT, start_new_session=True)
        with self.lock:
            self.children.append((name, child, log))
            with open(self.pids, "a", encoding="utf-8") as f:
                f.write(f"{child.pid} {start_time(child.pid)} {name}\n")
        return child

    def check(self):
        """Fails where a process has ended that should run."""
        for name, child, log in self.children:
            if child.poll() is not None:
                raise Failed(f"the {name} ended with status {child.returncode}", log)

    def stop(self, child, seconds=15):
        """SIGTERM, then SIGKILL; True where it ended by itself in time."""
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            child.kill()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                pass
            return False

    def unmount(self, where):
        try:
            run(["umount", where], 30)
        except Failed:
            run(["umount", "-l", where], 30, statuses=(0, 1, 32))

    def recorded(self):
        """Processes of the file that still run: (pid, start time, name)."""
        try:
            with open(self.pids, encoding="utf-8") as f:
                lines = [line.split(maxsplit=2) for line in f]
        except OSError:
            return []
        return [(int(pid), started, name.strip()) for pid, started, name in lines
                if started == start_time(pid)]

    def end(self, condition):
        """Ends the recorded processes whose name fulfils the condition, ours or an earlier run's."""
        for name, child, _log in self.children[::-1]:
            if condition(name):
                self.stop(child)
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [each for each in self.recorded() if condition(each[2])]
            for pid, _started, _name in left:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            deadline = time.monotonic() + 10
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = [each for each in left if each[1] == start_time(each[0])]

    def clean(self):
        """Ends and detaches everything of this folder, whoever started it; from the top down, since
        a file system whose tap has gone cannot be unmounted well."""
        self.end(lambda name: name == "workload")
        for where in mounts_below(self.folder):
            if os.path.basename(where) != "nbd":
                self.unmount(where)
        for device in loops_below(self.folder):
            run(["losetup", "-d", device], 30, statuses=(0, 1))
        deadline = time.monotonic() + 10
        while loops_below(self.folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        for where in mounts_below(self.folder):
            self.unmount(where)
        self.end(lambda name: True)
        for where in mounts_below(self.folder):
            self.unmount(where)
        self.children.clear()
        if os.path.exists(self.pids):
            os.remove(self.pids)


def loop_free():
    """A free loop device, its node made where it is missing."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    device = f"/dev/loop{number}"
    if not os.path.exists(device):
        os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(7, number))
    return device


LOOP_LOCK = threading.Lock()


def loop_attach(path, *options):
    """Someone else may take the free device first: tried again."""
    for _ in range(20):
        with LOOP_LOCK:
            device = loop_free()
            _, status = run(["losetup", *options, device, path], 30, statuses=(0, 1))
        if status == 0:
            return device
        time.sleep(0.1)
    raise Failed(f"no free loop device for '{path}': detach some (losetup -a lists them)")


def preflight(folder):
    for tool in ("nbdkit", "nbdfuse", "losetup", "mount", "umount", "mkfs.ext4", "mkfs.xfs", "e2fsck",
                 "xfs_repair"):
        if shutil.which(tool) is None:
            raise Failed(f"this machine lacks '{tool}': deploy/install-deps.sh installs it")
    for kind in ("ext4", "xfs"):
        with open("/proc/filesystems", encoding="utf-8") as f:
            if kind not in f.read().split():
                subprocess.run(["sh", "-c", f"modprobe {kind} 2>/dev/null"], timeout=30, check=False)
        with open("/proc/filesystems", encoding="utf-8") as f:
            if kind not in f.read().split():
                raise Failed(f"this machine lacks the {kind} file system in its kernel")
    free = shutil.disk_usage(os.path.dirname(folder)).free
    if free < 8 << 30:
        raise Failed(f"only {free >> 20} MiB free for '{folder}': 8 GiB are needed")
    for address in [COORDINATOR] + [address for _, address in MEMBERS]:
        host, port = address.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                raise Failed(f"this machine's address {address} cannot be used: {error.strerror}; end "
                             "what listens there (another quickstart?)") from error
    probes = []
    try:
        for k in range(len(MEMBERS) * len(DISKS)):
            probe = os.path.join(folder, f"probe{k}")
            with open(probe, "wb") as f:
                f.truncate(1 << 20)
            try:
                probes.append(loop_attach(probe))
            except (Failed, OSError) as error:
                raise Failed(f"this machine lacks a free loop device ({k} of "
                             f"{len(MEMBERS) * len(DISKS)} were): {error}") from error
    finally:
        for device in probes:
            run(["losetup", "-d", device], 30, statuses=(0, 1))
        for name in os.listdir(folder):
            if name.startswith("probe"):
                os.remove(os.path.join(folder, name))
    unlink_sockets()  # nobody listens on the addresses: one that is there was left behind
    os.symlink(folder, SOCKETS)


def unlink_sockets():
    if os.path.islink(SOCKETS):
        os.remove(SOCKETS)


def unmount_used(where):
    """After files were open in it: a child that another thread is just starting may still have them,
    until it is another program."""
    wait_for(f"umount '{where}'", 30, lambda: run(["umount", where], 60, statuses=(0, 32))[1] == 0)


class Disk:
    """One disk of a machine: image, tap, and the file system on what the tap serves."""

    def __init__(self, site, member, name, kind):
        self.site = site
        self.member = member
        self.name = name
        self.kind = kind
        self.title = f"{member}/{name}"
        self.key = f"{member}-{name}"
        self.folder = os.path.join(site.folder, self.key)
        self.image = os.path.join(self.folder, "image")
        self.ring = os.path.join(self.folder, "log")
        self.socket = os.path.join(site.sockets, self.key, "sock")
        self.control = os.path.join(site.sockets, self.key, "ctl")
        self.served = os.path.join(self.folder, "nbd")
        self.mountpoint = os.path.join(self.folder, "mnt")
        self.tap = None
        self.fuse = None
        self.device = None
        self.began = 0.0        # start of its tap
        self.stream = None
        self.whole_after = None  # seconds
        self.copied = 0         # bytes, as the far side's stream says

    def log(self, what):
        return os.path.join(self.site.logs, f"{what}-{self.key}.log")

    def fill(self):
        """A disk in use before Tidemark comes: a file system with files of known content."""
        for folder in (self.folder, self.ring, self.mountpoint):
            os.makedirs(folder)
        with open(self.image, "wb") as f:
            f.truncate(DISK_MIB << 20)
        device = loop_attach(self.image)
        try:
            if self.kind == "ext4":
                run(["mkfs.ext4", "-q", "-F", "-J", "size=8", "-E",
                     "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device], 120)
            else:
                run(["mkfs.xfs", "-q", "-f", "-K", device], 120)
            run(["mount", device, self.mountpoint], 60)
            os.makedirs(os.path.join(self.mountpoint, "before"))
            for name in OLD_FILES:
                with open(os.path.join(self.mountpoint, "before", name), "wb") as f:
                    f.write(old_content(self.key, name))
            unmount_used(self.mountpoint)
        finally:
            run(["losetup", "-d", device], 30, statuses=(0, 1))
        wait_for(f"loop device of {self.title}", 15, lambda: not any(
            each == device for each in loops_below(self.folder)))

    def start(self):
        with open(self.served, "wb"):
            pass
        self.began = time.monotonic()
        self.tap = self.site.keeper.spawn(
            f"tap {self.title}",
            ["nbdkit", "-f", "-U", self.socket, "-t", "16", self.site.plugin, f"disk={self.image}",
             f"log={self.ring}", f"control={self.control}", f"hold-max-ms={HOLD_MAX_MS}",
             "flush=log", "log-size=256M"], self.log("tap"))
        wait_for(f"tap of {self.title}", 20,
                 lambda: os.path.exists(self.socket) and os.path.exists(self.control),
                 self.log("tap"), self.tap)

    def attach(self):
        self.fuse = self.site.keeper.spawn(
            f"nbdfuse {self.title}",
            ["nbdfuse", self.served, f"nbd+unix:///?socket={self.socket}"], self.log("nbdfuse"))
        wait_for(f"nbdfuse of {self.title}", 20, lambda: self.served in mounts_below(self.folder) and
                 os.stat(self.served).st_size == DISK_MIB << 20, self.log("nbdfuse"), self.fuse)
        self.device = loop_attach(self.served, "--direct-io=on")
        run(["mount", self.device, self.mountpoint], 60, log=self.log("tap"))

    def detach(self):
        """Leaves the tap running; every step has a deadline."""
        if self.mountpoint in mounts_below(self.folder):
            run(["umount", self.mountpoint], 60, log=self.log("tap"))
        if self.device is not None:
            run(["losetup", "-d", self.device], 30)
            self.device = None
            # The last user lets go a moment later.
            wait_for(f"loop device of {self.title}", 15, lambda: not loops_below(self.folder))
        if self.served in mounts_below(self.folder):
            run(["umount", self.served], 30)
        if self.fuse is not None:
            self.site.keeper.stop(self.fuse)


def old_content(key, name):
    return random.Random(f"{key} {name}").randbytes(OLD_FILES[name])


def check_old_files(mountpoint, key):
    """What is wrong with the files that a disk held before its tap; None: nothing."""
    folder = os.path.join(mountpoint, "before")
    try:
        if sorted(os.listdir(folder)) != sorted(OLD_FILES):
            return f"not the files that were there before: {sorted(os.listdir(folder))}"
        for name in OLD_FILES:
            with open(os.path.join(folder, name), "rb") as f:
                if f.read() != old_content(key, name):
                    return f"the file '{name}' is not what it was before"
    except OSError as error:
        return f"a file that was there before: {error}"
    return None


class Site:
    """One run: coordinator, participants, taps, workload."""

    def __init__(self, name, options, keeper, hold):
        self.name = name
        self.options = options
        self.keeper = keeper
        self.hold = hold
        self.label = "full" if hold else "unaligned"
        self.folder = os.path.join(options.work, name)
        self.sockets = os.path.join(SOCKETS, name)
        self.logs = os.path.join(self.folder, "logs")
        self.pki = os.path.join(options.work, "pki")
        self.tidemark = os.path.join(options.bin, "tidemark")
        self.plugin = os.path.join(options.bin, "nbdkit-tidemark-plugin.so")
        self.local = os.path.join(self.sockets, "c.ipc")
        self.store = os.path.join(self.folder, "store")
        self.master_key = os.path.join(self.folder, "master.key")
        self.disks = [Disk(self, member, name, kind) for member, _ in MEMBERS
                      for name, kind in DISKS]
        self.participants = []
        self.coordinator = None
        self.canary = None
        self.canary_log = os.path.join(self.logs, "canary.jsonl")
        self.canary_end = {}
        self.points = []
        self.early_points = 0  # listed while a disk was not whole

    def member_disks(self, member):
        return [disk for disk in self.disks if disk.member == member]

    def log(self, what):
        return os.path.join(self.logs, what + ".log")

    def ask(self, *arguments):
        """A command of the coordinator, as JSON."""
        out, _ = run([self.tidemark, *arguments, "-o", "json", "--local", self.local], 30,
                     log=self.log("coordinator"))
        return json.loads(out)

    def start_coordinator(self):
        path = os.path.join(self.folder, "coordinator.ini")
        if not os.path.exists(self.master_key):
            write_file(self.master_key, secrets.token_hex(32) + "\n")
            os.chmod(self.master_key, 0o600)
        write_file(path, f"""[coordinator]
listen = {COORDINATOR}
identity-cert = {self.pki}/coordinator.crt
identity-key = {self.pki}/coordinator.key
ca = {self.pki}/ca.crt
store = {self.store}
catalog = {self.folder}/catalog.sqlite
master-key = {self.master_key}
local = {self.local}
""")
        self.coordinator = self.keeper.spawn(
            "coordinator", [os.path.join(self.options.bin, "tidemark-coordinator"), "-c", path],
            self.log("coordinator"))
        wait_for("coordinator", 20, self.answers, self.log("coordinator"), self.coordinator)

    def answers(self):
        if not os.path.exists(self.local):
            return False
        try:
            self.ask("group", "list")
        except Failed:
            return False
        return True

    def participant_local(self, member):
        return os.path.join(self.sockets, member, "p.ipc")

    def look_at_copies(self):
        """Notes which disks have become whole; true once all have."""
        for member, _ in MEMBERS:
            disks = [d for d in self.member_disks(member) if d.whole_after is None]
            if not disks:
                continue
            out, _ = run([self.tidemark, "participant", "status", "-o", "json", "--local",
                          self.participant_local(member)], 30, log=self.log(f"participant-{member}"))
            for status in json.loads(out)["disks"]:
                for disk in disks:
                    if disk.name == status["disk"] and status["whole"]:
                        disk.stream = status["stream"]
                        disk.whole_after = time.monotonic() - disk.began
        return all(disk.whole_after is not None for disk in self.disks)

    def count_copied(self):
        """From the streams at the far side, which alone count: what each disk's copy had to send."""
        for disk in self.disks:
            folder = os.path.join(self.store, "streams", disk.stream or "", "segments")
            names = sorted(n for n in os.listdir(folder) if n.endswith(".hrl"))
            for name in names:
                out, _ = run([self.tidemark, "hrl", "show", "--master-key", self.master_key, os.path.join(folder, name)], 60)
                found = re.search(r"copy-end.*?copied (\d+)", out)
                if found:
                    disk.copied = int(found.group(1))
                    break
        say("initial copies: " + ", ".join(
            f"{d.title} {d.copied / (1 << 20):.1f} MiB, seen whole after {d.whole_after:.1f} s"
            for d in self.disks if d.whole_after is not None))

    def start_participant(self, member, address):
        folder = os.path.join(self.folder, member)
        local = self.participant_local(member)
        os.makedirs(folder)
        disks = "".join(f"[disk {GROUP}/{member}/{disk.name}]\ntap = {disk.control}\n"
                        for disk in self.member_disks(member))
        path = os.path.join(folder, "participant.ini")
        write_file(path, f"""[participant]
identity-cert = {self.pki}/{member}.crt
identity-key = {self.pki}/{member}.key
ca = {self.pki}/ca.crt
listen = {address}
coordinator = {COORDINATOR}
coordinator-identity = spiffe://{SITE}/coordinator/main
state = {folder}/state
local = {local}

[member {GROUP}/{member}]
{disks}""")
        os.makedirs(os.path.join(folder, "state"))
        switches = ["--test-hold-skew-ms", self.options.test_hold_skew_ms, "--test-seed",
                    self.options.test_seed]
        if not self.hold:
            switches.append("--unsafe-no-hold")
        child = self.keeper.spawn(
            f"participant {member}",
            [os.path.join(self.options.bin, "tidemark-participant"), "-c", path, *switches],
            self.log(f"participant-{member}"))
        wait_for(f"participant {member}", 20, lambda: os.path.exists(local),
                 self.log(f"participant-{member}"), child)
        self.participants.append(child)

    def apply_group(self):
        path = os.path.join(self.folder, "group.yaml")
        members = "".join(
            f"  - name: {member}\n    participant: spiffe://{SITE}/participant/{member}\n"
            f"    address: {address}\n    disks: [{', '.join(name for name, _ in DISKS)}]\n"
            for member, address in MEMBERS)
        write_file(path, f"group: {GROUP}\ninterval: 1s\nhold-max: {HOLD_MAX_MS}ms\nmissing: strict\n"
                         f"members:\n{members}")
        run([self.tidemark, "group", "apply", "-f", path, "--local", self.local], 30,
            log=self.log("coordinator"))

    def start(self):
        os.makedirs(self.logs)
        os.makedirs(self.store)
        say(f"six disks in use: mkfs, {sum(OLD_FILES.values()) / (1 << 20):.1f} MiB of files on each; "
            "no tap yet")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(Disk.fill, self.disks))
        say("coordinator, six taps, three participants: each disk is copied first, beside its guest")
        self.start_coordinator()
        for disk in self.disks:
            disk.start()
        for member, address in MEMBERS:
            self.start_participant(member, address)
        say("the file systems through their taps: nbdfuse, loop device, mount")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(Disk.attach, self.disks))
        self.look_at_copies()

    def start_canary(self):
        say(f"workload: {self.options.tokens} tokens go round over six file systems")
        self.canary = self.keeper.spawn(
            "workload", [self.tidemark, "canary", "run", *[d.mountpoint for d in self.disks], "--tokens",
                       self.options.tokens, "--seconds", RUN_SECONDS * 2, "--seed",
                       self.options.test_seed, "--steps-per-s",
                       self.options.steps_per_s, "--background-kib-s",
                       self.options.background_kib_s, "--report", 1, "-o", "json"],
            self.canary_log)
        wait_for("workload", 60, lambda: self.canary_lines(), self.canary_log, self.canary)

    def canary_lines(self):
        lines = []
        with open(self.canary_log, encoding="utf-8") as f:
            for line in f:
                if line.endswith("\n") and line.startswith("{"):
                    lines.append(json.loads(line))
        return lines

    def list_points(self):
        points = [p for p in self.ask("point", "list", GROUP)["points"]
                  if p["label"] == self.label]
        return sorted(points, key=lambda p: p["members"][0]["disks"][0]["lsn"])

    def watch(self):
        """Until enough points are at the coordinator, with one line a second."""
        live = Live()
        began = time.monotonic()
        while True:
            seconds = time.monotonic() - began
            self.points = self.list_points()
            whole = self.look_at_copies()
            if not whole:
                self.early_points = len(self.points)
            lines = self.canary_lines()
            rate = lines[-1]["steps_per_s"] if lines else 0
            hold = holds(self.points[-1]) if self.points else {}
            longest = max(hold.values(), default=0) / 1000
            live.show(f"{self.name}: {seconds:3.0f} s, {len(self.points)} points {self.label}, last "
                      f"hold {longest:.1f} ms, workload {rate:.0f} steps/s")
            if len(self.points) >= self.options.points or seconds > RUN_SECONDS:
                break
            self.keeper.check()
            time.sleep(1 if whole else 0.2)
        live.end()
        say(f"{len(self.points)} points {self.label} after {seconds:.0f} s")

    def failed_rounds(self):
        """Why rounds became no point: reason -> count."""
        reasons = {}
        for failed in self.ask("point", "list", GROUP, "--failed")["rounds"]:
            reasons[failed["reason"]] = reasons.get(failed["reason"], 0) + 1
        return reasons

    def stop(self):
        """Participants first, so that every point was taken under the workload; then all but the
        coordinator, and what is left of the machines is moved out of reach."""
        say("participants, workload and taps stop; their logs and disks are moved away")
        for child in self.participants:
            self.keeper.stop(child)
        self.keeper.stop(self.canary, 30)
        lines = self.canary_lines()
        if self.canary.returncode != 0 or not lines or lines[-1]["state"] != "ended":
            raise Failed(f"the workload ended with status {self.canary.returncode}", self.canary_log)
        self.canary_end = lines[-1]
        for disk in self.disks:
            disk.detach()
            if not self.keeper.stop(disk.tap):
                raise Failed(f"the tap of {disk.title} did not end on SIGTERM", disk.log("tap"))
        away = os.path.join(self.folder, "moved-away")
        os.makedirs(away)
        for disk in self.disks:
            os.rename(disk.folder, os.path.join(away, disk.key))
        for member, _ in MEMBERS:
            os.rename(os.path.join(self.folder, member), os.path.join(away, member))
        self.points = self.list_points()
        self.count_copied()
        failed = self.failed_rounds()
        if failed:
            say("rounds that became no point: " + ", ".join(
                f"{count} {reason}" for reason, count in sorted(failed.items())))

    def finish(self):
        self.keeper.stop(self.coordinator)
        self.keeper.children.clear()  # all of this run's have ended


def holds(point):
    """Longest hold of each member in microseconds."""
    return {m["member"]: max(d["hold_us"] for d in m["disks"]) for m in point["members"]}


def writes_held(point):
    return {m["member"]: sum(d["writes_held"] for d in m["disks"]) for m in point["members"]}


class Verifier:
    """Exports every point from the coordinator's store alone and judges it."""

    def __init__(self, site, pool):
        self.site = site
        self.pool = pool
        self.folder = os.path.join(site.folder, "verify")
        self.exported = {disk.key: os.path.join(self.folder, disk.key + ".img")
                         for disk in site.disks}
        os.makedirs(self.folder)

    def export(self, disk, point, before, to):
        arguments = [self.site.tidemark, "point", "export", point["point"], "--vm", disk.member,
                     "--disk", disk.name, "--to", to, "--local", self.site.local]
        if before is not None:
            arguments += ["--from", before["point"]]
        if not self.site.hold:
            arguments.append("--unaligned")
        run(arguments, 120, log=self.site.log("coordinator"))

    def prepare(self, disk, point, before):
        """Export, journal replay by a mount on a copy, check, mount for reading."""
        exported = self.exported[disk.key]
        copy = os.path.join(self.folder, disk.key + ".copy")
        mountpoint = os.path.join(self.folder, disk.key)
        os.makedirs(mountpoint, exist_ok=True)
        self.export(disk, point, before, exported)
        run(["cp", "--sparse=auto", exported, copy], 60)
        extra = ["-o", "nouuid"] if disk.kind == "xfs" else []
        device = loop_attach(copy)
        try:
            run(["mount", *extra, device, mountpoint], 60)
            run(["umount", mountpoint], 60)
            if disk.kind == "ext4":
                run(["e2fsck", "-f", "-n", device], 60)
            else:
                run(["xfs_repair", "-n", device], 60)
            run(["mount", "-o", "ro,nouuid" if disk.kind == "xfs" else "ro", device, mountpoint], 60)
            wrong = check_old_files(mountpoint, disk.key)
            if wrong is not None:
                unmount_used(mountpoint)
                raise Failed(wrong)
        except Failed:
            run(["losetup", "-d", device], 30, statuses=(0, 1))
            raise
        return device, mountpoint

    def release(self, mounted):
        device, mountpoint = mounted
        run(["umount", mountpoint], 60)
        run(["losetup", "-d", device], 30)

    def judge(self, point, before):
        """("consistent" or "torn" or what is wrong, steps proven, text)."""
        jobs = [self.pool.submit(self.prepare, disk, point, before) for disk in self.site.disks]
        mounted = []
        errors = []
        for disk, job in zip(self.site.disks, jobs):
            try:
                mounted.append(job.result(600))
            except Failed as error:
                errors.append(f"{disk.title}: {error}")
        try:
            if errors:
                return "file system", 0, "; ".join(errors)
            done = subprocess.run([self.site.tidemark, "canary", "check", "-o", "json",
                                   *[mountpoint for _, mountpoint in mounted]],
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                                  check=False)
            if done.returncode not in (0, 1):
                return "unjudged", 0, done.stderr.decode(errors="replace").strip()
            verdict = json.loads(done.stdout)
            torn = verdict["torn"]
            text = ""
            if torn:
                first = torn[0]
                names = [os.path.basename(first[k]["dir"]) for k in ("effect", "cause")]
                text = (f"token {first['token']}: step {first['effect']['step']} on {names[0]} without "
                        f"step {first['cause']['step']} on {names[1]}")
            return verdict["verdict"], verdict["steps_proven"], text
        finally:
            for each in mounted:
                self.release(each)

    def all(self):
        say(f"every point: export what changed, replay the journals, check, mount, judge "
            f"({len(self.site.points)} points, six disks each)")
        live = Live()
        results = []
        before = None
        for k, point in enumerate(self.site.points):
            verdict, steps, text = self.judge(point, before)
            results.append((point, verdict, steps, text))
            before = point
            live.show(f"{self.site.name}: judged {k + 1} of {len(self.site.points)}: {verdict}")
        live.end()
        return results

    def keep_last(self, to):
        """The last point's images, compared with an export of it from the beginning."""
        last = self.site.points[-1]
        shutil.rmtree(to, ignore_errors=True)
        os.makedirs(to)
        for disk in self.site.disks:
            kept = os.path.join(to, disk.key + ".img")
            self.export(disk, last, None, kept)
            if file_hash(kept) != file_hash(self.exported[disk.key]):
                raise Failed(f"{disk.title}: the image made point by point and the one made at once "
                             f"differ at point {last['point']}")


def file_hash(path):
    """Of the data with its places, holes left out."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        digest.update(str(size).encode())
        at = 0
        while at < size:
            block = f.read(1 << 20)
            if block.count(0) != len(block):
                digest.update(str(at).encode())
                digest.update(block)
            at += len(block)
    return digest.hexdigest()


def report(site, results):
    """Table of points and the figures above the last line; what failed, as texts."""
    names = [member for member, _ in MEMBERS]
    print(f"\n{site.name} run: {'hold on' if site.hold else 'hold switched off (--unsafe-no-hold)'}")
    print(f"{'':43}{'LONGEST HOLD ms':^{8 * len(names)}}{'WRITES HELD':^{7 * len(names)}}".rstrip())
    print(f"{'POINT':14}{'KIND':7}{'LABEL':11}{'MEMBERS':>7}    " + "".join(f"{n:>8}" for n in names)
          + "".join(f"{n:>7}" for n in names) + f"{'STEPS':>8}  VERDICT")
    for point, verdict, steps, text in results:
        hold = holds(point)
        held = writes_held(point)
        print(f"{point['point'][:12]:14}{point['kind']:7}{point['label']:11}"
              f"{len(point['members']):7}    "
              + "".join(f"{hold.get(n, 0) / 1000:8.1f}" for n in names)
              + "".join(f"{held.get(n, 0):7}" for n in names)
              + f"{steps:8}  {verdict}" + (f": {text}" if text else ""))
    end = site.canary_end
    proven = [steps for _, verdict, steps, _ in results if verdict == "consistent"]
    print(f"workload: {end['steps']} steps in {end['seconds']:.1f} s, {end['steps_per_s']:.0f} "
          f"steps/s; steps proven per point: "
          + (f"{min(proven)} to {max(proven)}" if proven else "none"))
    for name in names:
        each = [writes_held(point).get(name, 0) for point, _, _, _ in results]
        if each:
            print(f"writes held per point on {name}: {min(each)} to {max(each)}, "
                  f"{sum(each) / len(each):.1f} on average")
    sys.stdout.flush()


def one_run(name, hold, options, keeper):
    say(f"== {name} run" + ("" if hold else ": the same with the hold switched off"))
    site = Site(name, options, keeper, hold)
    site.start()
    site.start_canary()
    say(f"group applied: a bookmark every second, until {options.points} points or {RUN_SECONDS} s")
    site.apply_group()
    site.watch()
    site.stop()
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        verifier = Verifier(site, pool)
        results = verifier.all()
        if hold and site.points:
            verifier.keep_last(os.path.join(options.work, "last-point"))
    report(site, results)
    site.finish()
    return site, results


def judge_all(held, held_results, free, free_results, options):
    """Reasons why the quickstart fails, and its last line."""
    reasons = []
    torn = sum(1 for r in held_results if r[1] != "consistent")
    free_torn = sum(1 for r in free_results if r[1] == "torn")
    unjudged = [r for r in free_results if r[1] not in ("torn", "consistent")]
    both = sum(1 for r in held_results
               if sum(1 for count in writes_held(r[0]).values() if count > 0) >= 2)
    rates = (held.canary_end["steps_per_s"], free.canary_end["steps_per_s"])
    if len(held_results) < options.points:
        reasons.append(f"only {len(held_results)} points within {RUN_SECONDS} s, {options.points} are "
                       "due")
    if torn:
        reasons.append(f"{torn} points are not consistent")
    if unjudged:
        reasons.append(f"{len(unjudged)} points of the control could not be judged")
    if free_torn < 1:
        reasons.append("no point of the control is torn: the comparison says nothing")
    if both < HELD_POINTS:
        reasons.append(f"only {both} points held a write on two members or more, {HELD_POINTS} are due")
    if max(rates) > 2 * min(rates):
        reasons.append(f"the runs' step rates {rates[0]:.0f} and {rates[1]:.0f} differ by more than a "
                       "factor of 2: the comparison says nothing")
    print(f"\npoints that held a write on two members or more: {both} of {len(held_results)}")
    line = (f"quickstart: {len(held_results)} points, {torn} torn; without the hold: {free_torn} of "
            f"{len(free_results)} torn")
    return reasons, line


def judge_copies(site):
    """Reasons why a run does not show that disks with data joined."""
    reasons = []
    least = sum(OLD_FILES.values())
    for disk in site.disks:
        if disk.whole_after is None:
            reasons.append(f"{site.name}: the disk {disk.title} did not become whole")
        elif disk.copied < least:
            reasons.append(f"{site.name}: the copy of {disk.title} sent {disk.copied} bytes, of at least "
                           f"{least} that were there")
    if site.early_points > 0:
        reasons.append(f"{site.name}: {site.early_points} points before all disks were whole")
    return reasons


def make_identities(options):
    say("site CA and four certificates")
    tidemark = os.path.join(options.bin, "tidemark")
    pki = os.path.join(options.work, "pki")
    run([tidemark, "pki", "init", "--dir", pki, "--site", SITE])
    run([tidemark, "pki", "issue", "--dir", pki, "--coordinator", "main", "--ip",
         COORDINATOR.split(":")[0], "--out", os.path.join(pki, "coordinator")])
    for member, _ in MEMBERS:
        run([tidemark, "pki", "issue", "--dir", pki, "--participant", member, "--out",
             os.path.join(pki, member)])


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder")
    parser.add_argument("--test-hold-skew-ms", type=int, default=20,
                        help="each member waits 0 to N ms before it acts on HOLD (20)")
    parser.add_argument("--test-seed", type=int, default=1, help="of the waits and the workload (1)")
    parser.add_argument("--points", type=int, default=POINTS, help=f"points due ({POINTS})")
    parser.add_argument("--tokens", type=int, default=12, help="tokens of the workload (12)")
    parser.add_argument("--steps-per-s", type=int, default=3600,
                        help="steps a second of the workload, at most (3600)")
    parser.add_argument("--background-kib-s", type=int, default=1536,
                        help="other writes beside the tokens, KiB/s a disk (1536)")
    parser.add_argument("--workers", type=int, default=3, help="disks prepared at once (3)")
    parser.add_argument("--keep", action="store_true", help="keep all working files")
    options = parser.parse_args()
    options.build = os.path.realpath(options.build)
    options.bin = os.path.join(options.build, "bin")
    options.work = os.path.join(options.build, "quickstart")
    return options


def quickstart(options, keeper):
    preflight(options.work)
    say(f"test switch: every member waits 0 to {options.test_hold_skew_ms} ms of its own before it acts "
        f"on HOLD, seed {options.test_seed}, in both runs; a hold is cut at {HOLD_MAX_MS} ms")
    make_identities(options)
    held, held_results = one_run("hold", True, options, keeper)
    free, free_results = one_run("control", False, options, keeper)
    reasons, line = judge_all(held, held_results, free, free_results, options)
    reasons = judge_copies(held) + judge_copies(free) + reasons
    last = os.path.join(options.work, "last-point")
    if os.path.isdir(last):
        print(f"the last point's disks are in {last}; to look at one: mount -o loop "
              f"{last}/{MEMBERS[0][0]}-data.img /mnt (the -log.img: mount -o loop,nouuid)")
    if not reasons and not options.keep:
        for site in (held, free):
            shutil.rmtree(site.folder, ignore_errors=True)
    for reason in reasons:
        print(f"quickstart failed: {reason}", flush=True)
    return reasons, line


def main():
    options = parse()
    os.makedirs(options.work, exist_ok=True)
    lock = os.open(os.path.join(options.build, "quickstart.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another quickstart runs in '{options.work}': wait for its end", file=sys.stderr)
        return 1
    keeper = Keeper(options.work)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    status = 1
    line = None
    try:
        keeper.clean()
        shutil.rmtree(options.work)
        os.makedirs(options.work)
        reasons, line = quickstart(options, keeper)
        status = 1 if reasons else 0
    except Failed as error:
        print(f"\nquickstart failed: {error}", file=sys.stderr, flush=True)
        if error.log is not None:
            print(f"the end of {error.log}:\n{tail(error.log)}", file=sys.stderr, flush=True)
        print(f"all logs and files: {options.work}", file=sys.stderr)
    except Stopped as why:
        print(f"\nquickstart: stopped by {why}; cleaning up", file=sys.stderr, flush=True)
        status = 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.clean()
        if os.path.islink(SOCKETS) and os.readlink(SOCKETS) == options.work:
            unlink_sockets()
    if line is not None:
        print(line, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
