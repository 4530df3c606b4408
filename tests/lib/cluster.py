# SPDX-License-Identifier: Apache-2.0
"""A whole Tidemark on one machine for system tests: site CA, coordinator, participants, taps.

Each cluster has loopback addresses of its own (127.A.B.x, from the process id), so that several
test runs do not meet. All processes are started and ended by pid; every wait has a deadline."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

SITE = "test"
GROUP = "shop"
HOLD_MAX_MS = 80  # of the group, and of each tap

BEGAN = time.monotonic()


class Failed(Exception):
    pass


def check(what, condition, detail=""):
    if not condition:
        raise Failed(f"{what}: {detail}")


def step(text):
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def run_part(part, cluster, story=True):
    """part(cluster), and what its failure looks like to a person; returns the exit status. Whatever has
    happened, the catalog that is made anew from the store must say what the kept one says."""
    try:
        part(cluster)
        if cluster.coordinator is not None and cluster.coordinator.running():
            cluster.catalog_is_remade()
    except (Failed, OSError, subprocess.SubprocessError) as e:
        print(f"FAILED: {e}")
        if story:
            print(cluster.story())
        cluster.keep = True
        print(f"the folders are kept: {cluster.base}")
        return 1
    finally:
        cluster.close()
    step("passed")
    return 0


def wait_until(what, seconds, condition):
    """Returns the first true value of condition()."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Process:
    def __init__(self, name, arguments, log, pass_fds=()):
        self.name = name
        self.log = log
        with open(log, "ab") as out:
            self.child = subprocess.Popen([str(a) for a in arguments], stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=out, pass_fds=pass_fds)

    def running(self):
        return self.child.poll() is None

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self):
        if self.running():
            self.child.kill()
        self.child.wait(60)  # it may be in a sync that the machine is slow to end

    def stop(self, seconds=8):
        """SIGTERM; returns the exit status."""
        if self.running():
            self.child.terminate()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not end within {seconds} s of SIGTERM") from None

    def hang_up(self, text):
        """SIGHUP; what it says of it must contain text."""
        before = self.text().count("SIGHUP: ")
        self.child.send_signal(signal.SIGHUP)
        wait_until("it says what it did", 10, lambda: self.text().count("SIGHUP: ") > before)
        check("SIGHUP", text in self.text().split("SIGHUP: ")[-1], self.text()[-1000:])

    def pause(self, on):
        os.kill(self.child.pid, signal.SIGSTOP if on else signal.SIGCONT)


class Nbd:
    """The least NBD client there is: fixed newstyle, simple replies, one request at a time."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(15)
        self.s.connect(path)
        if self._get(16) != b"NBDMAGICIHAVEOPT":
            raise Failed("no NBD server")
        self._get(2)
        self.s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
        self.size, _ = struct.unpack(">QH", self._get(10))
        self.handle = 0

    def _get(self, size):
        data = b""
        while len(data) < size:
            more = self.s.recv(size - len(data))
            if not more:
                raise Failed("the NBD server closed the connection")
            data += more
        return data

    def _ask(self, command, offset, size, data=b""):
        self.handle += 1
        self.s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, command, self.handle, offset, size) +
                       data)
        magic, error, handle = struct.unpack(">IIQ", self._get(16))
        if magic != 0x67446698 or handle != self.handle:
            raise Failed("the NBD reply is wrong")
        if error != 0:
            raise OSError(error, "NBD request failed")
        return self._get(size) if command == 0 else None

    def read(self, offset, size):
        return self._ask(0, offset, size)

    def write(self, offset, data):
        self._ask(1, offset, len(data), data)

    def flush(self):
        self._ask(3, 0, 0)

    def trim(self, offset, size):
        self._ask(4, offset, size)

    def zero(self, offset, size):
        self._ask(6, offset, size)

    def read_all(self):
        return b"".join(self.read(at, min(1 << 20, self.size - at))
                        for at in range(0, self.size, 1 << 20))

    def close(self):
        self.s.close()


class Writer(threading.Thread):
    """Writes counted 4 KiB blocks round and round a disk; connects again when the tap restarts."""

    def __init__(self, disk, pause_s=0.01):
        super().__init__(daemon=True)
        self.disk = disk
        self.pause_s = pause_s
        self.count = 0
        self.ending = False

    def run(self):
        nbd = None
        while not self.ending:
            try:
                if nbd is None:
                    nbd = Nbd(self.disk.socket)
                nbd.write(self.count % 256 * 4096, struct.pack("<Q", self.count + 1) * 512)
                self.count += 1
            except (OSError, Failed):
                if nbd is not None:
                    nbd.close()
                nbd = None
                time.sleep(0.1)
            time.sleep(self.pause_s)

    def end(self):
        self.ending = True
        self.join(20)


class Disk:
    def __init__(self, cluster, member, name, size=8 << 20, log_size="16M", folder=None):
        self.cluster = cluster
        self.member = member
        self.name = name
        self.log_size = log_size
        base = cluster.path(f"{member}-{name}")
        os.makedirs(base)
        self.folder = folder or os.path.join(base, "log")
        os.makedirs(self.folder, exist_ok=True)
        self.image = os.path.join(base, "image")
        self.socket = os.path.join(base, "nbd")
        self.control = os.path.join(base, "control")
        self.tap = None
        self.plugin = cluster.binary("nbdkit-tidemark-plugin.so")
        self.before = []  # words before nbdkit
        self.hold_max_ms = HOLD_MAX_MS
        self.options = []
        with open(self.image, "wb") as f:
            f.truncate(size)

    def start(self):
        self.launch()
        self.wait()

    def launch(self):
        for path in (self.socket, self.control):
            if os.path.exists(path):
                os.unlink(path)
        self.tap = self.cluster.spawn(
            f"tap-{self.member}-{self.name}",
            [*self.before, "nbdkit", "-f", "-U", self.socket, "-t", "8", self.plugin,
             f"disk={self.image}", f"log={self.folder}", f"control={self.control}",
             f"log-size={self.log_size}", f"hold-max-ms={self.hold_max_ms}", *self.options])

    def wait(self):
        wait_until(f"tap of {self.member}/{self.name}: {self.tap.text()}", 15,
                   lambda: os.path.exists(self.socket) and os.path.exists(self.control))


class Participant:
    """A daemon: of one machine, or of a hypervisor with several members."""

    def __init__(self, cluster, name, address, disks, members=None):
        self.cluster = cluster
        self.name = name
        self.members = members or [name]
        self.address = address
        self.reached_at = address  # what the group file says
        self.disks = disks
        self.local = cluster.path(f"{name}.ipc")
        self.state = cluster.path(name + "-state")
        self.config = cluster.path(f"{name}.ini")
        self.process = None
        self.program = cluster.binary("tidemark-participant")
        self.switches = []
        self.write_config()

    def write_config(self):
        """Of the disks that it has now; a daemon reads it when it starts."""
        cluster, name = self.cluster, self.name
        sections = "".join(f"[member {GROUP}/{m}]\n" for m in self.members)
        sections += "".join(f"[disk {GROUP}/{d.member}/{d.name}]\ntap = {d.control}\n"
                            for d in self.disks)
        cluster.write(self.config, f"""[participant]
identity-cert = {cluster.path('pki')}/{name}.crt
identity-key = {cluster.path('pki')}/{name}.key
ca = {cluster.path('pki')}/ca.crt
listen = {self.address}
coordinator = {cluster.coordinator_address}
coordinator-identity = spiffe://{SITE}/coordinator/main
state = {self.state}
local = {self.local}
{sections}""")

    def start(self, *switches):
        self.launch(*switches)
        self.wait()

    def launch(self, *switches):
        self.switches = list(switches) or self.switches
        self.process = self.cluster.spawn(
            f"participant-{self.name}",
            [self.program, "-c", self.config, *self.switches])

    def wait(self):
        wait_until(f"participant {self.name} answers", 15, self.answers)

    def answers(self):
        if not self.process.running():
            raise Failed(f"participant {self.name} ended: {self.process.text()[-2000:]}")
        try:
            return self.status()
        except Failed:
            return None

    def status(self):
        return self.cluster.command("participant", "status", "--local", self.local)

    def take(self, wait="sealed", timeout=10):
        """The answer, also of a round that came to nothing (exit status 1)."""
        done = self.cluster.tidemark("point", "take", "--local", self.local, "--wait", wait,
                                     "--timeout", timeout, "-o", "json", seconds=timeout + 10)
        if done.returncode not in (0, 1) or not done.stdout:
            raise Failed(f"take: status {done.returncode}: {done.stderr}")
        answer = json.loads(done.stdout)
        answer["status"] = done.returncode
        return answer

    def disk(self, name, member=None):
        return next(d for d in self.status()["disks"]
                    if d["disk"] == name and member in (None, d["member"]))


class Cluster:
    def __init__(self, members, disks=("data", "log"), interval="1s", size=8 << 20, net=None,
                 encrypted=True, machines=None, log_size="16M"):
        """machines: which members a daemon stands for, by its name; else each has its own."""
        machines = machines or {m: [m] for m in members}
        self.build = os.environ["TIDE_BUILD"]
        self.base = tempfile.mkdtemp(prefix="tidemark-test-")
        self.processes = []
        self.keep = False  # the folders, after close()
        self.undo = []  # what close() calls once the processes have ended, the last first
        self.wraps = {}  # name of a process -> what its command line begins with
        self.interval = interval
        self.missing = "strict"
        a, b = os.getpid() // 250 % 120 + 100, os.getpid() % 250 + 1
        self.net = net or f"127.{a}.{b}"
        self.coordinator_address = f"{self.net}.10:9443"
        self.coordinator_local = self.path("coordinator.ipc")
        self.coordinator = None
        self.coordinator_program = self.binary("tidemark-coordinator")
        self.master_key = self.path("master.key") if encrypted else None
        if encrypted:
            self.write(self.master_key, os.urandom(32).hex() + "\n")
            os.chmod(self.master_key, 0o600)
        self._pki(machines)
        self.disks = [Disk(self, m, d, size, log_size) for m in members for d in disks]
        self.participants = [
            Participant(self, name, f"{self.net}.{11 + i}:20004",
                        [d for d in self.disks if d.member in own], own)
            for i, (name, own) in enumerate(machines.items())]

    # ---- files and programs

    def path(self, name):
        return os.path.join(self.base, name)

    def binary(self, name):
        return os.path.join(self.build, "bin", name)

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def spawn(self, name, arguments):
        arguments = [*self.wraps.get(name, []), *arguments]
        process = Process(name, arguments, self.path(name + ".out"))
        self.processes.append(process)
        return process

    def run(self, *arguments, seconds=20):
        return subprocess.run([str(a) for a in arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds, check=False)

    def tidemark(self, *arguments, seconds=20):
        return self.run(self.binary("tidemark"), *arguments, seconds=seconds)

    def command(self, *arguments, seconds=20):
        """The JSON answer; Failed with what it said on standard error."""
        done = self.tidemark(*arguments, "-o", "json", seconds=seconds)
        if done.returncode != 0:
            raise Failed(f"tidemark {' '.join(map(str, arguments))}: status {done.returncode}: "
                         f"{done.stderr.strip()} {done.stdout.strip()}")
        return json.loads(done.stdout)

    def _pki(self, participants):
        pki = self.path("pki")
        orders = [("init", "--site", SITE, "--dir", pki),
                  ("issue", "--dir", pki, "--coordinator", "main", "--ip", f"{self.net}.10",
                   "--out", f"{pki}/coordinator")]
        orders += [("issue", "--dir", pki, "--participant", p, "--out", f"{pki}/{p}")
                   for p in participants]
        for order in orders:
            done = self.tidemark("pki", *order)
            if done.returncode != 0:
                raise Failed(f"pki {order}: {done.stderr}")

    def reissue(self, role, name, prefix, wrap=(), days=365):
        """As an operator would: elsewhere, then into the place of the old."""
        fresh = self.path("fresh")
        done = self.run(*wrap, self.binary("tidemark"), "pki", "issue", "--dir", self.path("pki"),
                        f"--{role}", name, "--ip", f"{self.net}.10", "--days", days, "--out", fresh)
        check("issued", done.returncode == 0, done.stderr)
        for end in (".key", ".crt"):
            os.rename(fresh + end, prefix + end)

    # ---- starting

    def start_coordinator(self):
        config = self.path("coordinator.ini")
        self.write(config, f"""[coordinator]
listen = {self.coordinator_address}
identity-cert = {self.path('pki')}/coordinator.crt
identity-key = {self.path('pki')}/coordinator.key
ca = {self.path('pki')}/ca.crt
store = {self.path('store')}
catalog = {self.path('catalog.sqlite')}
local = {self.coordinator_local}
{f"master-key = {self.master_key}" if self.master_key else ""}
""")
        os.makedirs(self.path("store"), exist_ok=True)
        self.coordinator = self.spawn("coordinator",
                                      [self.coordinator_program, "-c", config])

        def up():
            if not self.coordinator.running():
                raise Failed(f"coordinator ended: {self.coordinator.text()[-2000:]}")
            return self.tidemark("group", "list", "--local",
                                 self.coordinator_local).returncode == 0
        wait_until("coordinator answers", 15, up)

    def apply_group(self):
        members = "".join(
            f"  - name: {m}\n    participant: spiffe://{SITE}/participant/{p.name}\n"
            f"    address: {p.reached_at}\n"
            f"    disks: [{', '.join(d.name for d in p.disks if d.member == m)}]\n"
            for p in self.participants for m in p.members)
        path = self.path("group.yaml")
        self.write(path, f"group: {GROUP}\ninterval: {self.interval}\nhold-max: {HOLD_MAX_MS}ms\n"
                         f"missing: {self.missing}\nmembers:\n{members}")
        done = self.tidemark("group", "apply", "-f", path, "--local", self.coordinator_local)
        if done.returncode != 0:
            raise Failed(f"group apply: {done.stderr}")

    def start(self, *switches):
        self.start_coordinator()
        self.apply_group()
        for disk in self.disks:
            disk.launch()
        for disk in self.disks:
            disk.wait()
        for participant in self.participants:
            participant.launch(*switches)
        for participant in self.participants:
            participant.wait()

    # ---- watching

    def points(self):
        answer = self.command("point", "list", GROUP, "--local", self.coordinator_local)
        points = answer["points"] if isinstance(answer, dict) else answer
        return {p["point"]: p for p in points}

    def listed(self):
        """All that the catalog tells; but of what a round came to nothing for, the first reason that was
        heard stands there, and which was the first is no matter of the store."""
        def ask(*arguments):
            return self.command(*arguments, "--local", self.coordinator_local)
        failed = [{k: r[k] for k in ("round", "group", "epoch", "kind", "scope")}
                  for more in ((), ("--single-vm",))
                  for r in ask("point", "list", "--failed", *more)["rounds"]]
        return {"points": ask("point", "list"), "single": ask("point", "list", "--single-vm"),
                "groups": ask("group", "list"),
                "failed": sorted(failed, key=lambda r: r["round"])}

    def catalog_is_remade(self):
        for participant in self.participants:
            if participant.process is not None and participant.process.running():
                participant.process.kill()
        seen = [self.listed()]

        def settled():
            seen.append(self.listed())
            return seen[-1] == seen[-2]
        wait_until("no point comes any more", 20, settled)
        self.coordinator.stop()
        os.unlink(self.path("catalog.sqlite"))
        self.start_coordinator()
        made = self.listed()
        for what, kept in seen[-1].items():
            check(f"{what}: the catalog made from the store says what the kept one said",
                  made[what] == kept, f"{json.dumps(made[what])[-3000:]} {json.dumps(kept)[-3000:]}")
        step(f"the catalog made anew is the kept one: {len(made['points']['points'])} points, "
             f"{len(made['single']['points'])} of single VMs, "
             f"{len(made['failed'])} rounds that became none")

    def wait_points(self, what, more, seconds, before=None):
        """Waits for `more` points that `before` (default: those of now) does not have."""
        before = self.points() if before is None else before

        def new():
            found = {k: v for k, v in self.points().items() if k not in before}
            return found if len(found) >= more else None
        try:
            return wait_until(f"{more} points: {what}", seconds, new)
        except Failed as failed:
            raise Failed(f"{failed}; {self.story()}") from None

    def export(self, point, disk, *options):
        """The disk as it was at a point, as bytes."""
        image = self.path(f"exported-{disk.member}-{disk.name}")
        for path in (image, image + ".tidemark"):
            if os.path.exists(path):
                os.unlink(path)
        done = self.tidemark("point", "export", point, "--vm", disk.member, "--disk", disk.name,
                             "--to", image, "--local", self.coordinator_local, *options, seconds=60)
        if done.returncode != 0:
            raise Failed(f"export of {disk.member}/{disk.name} at {point}: status "
                         f"{done.returncode}: {done.stderr}{done.stdout}")
        with open(image, "rb") as f:
            return f.read()

    def story(self):
        """What a person would want to see after a failure."""
        lines = []
        for p in self.participants:
            try:
                status = p.status()
                lines.append(f"{p.name}: leader {status['members'][0]['leader']!r} reach "
                             f"{status['members'][0]['reach']}")
                lines += [f"  {d['disk']}: attached {d['attached']} whole {d['whole']} next "
                          f"{d['next_lsn']} stored {d['stored_lsn']} {d['shipping']} {d['error']}"
                          for d in status["disks"]]
                lines += [f"  round {r['reason']} {r['member']} {r['text']}"
                          for r in status["rounds"][-2:]]
            except (Failed, subprocess.TimeoutExpired) as e:
                lines.append(f"{p.name}: {e}")
        for process in {p.name: p for p in self.processes}.values():
            tail = process.text().strip().splitlines()[-6:]
            lines.append(f"--- {process.name} ({'running' if process.running() else 'ended'})")
            lines += tail
        return "\n".join(lines)

    def close(self):
        for process in reversed(self.processes):
            try:
                process.pause(False)
                process.kill()
            except (OSError, subprocess.TimeoutExpired):
                pass
        for undo in reversed(self.undo):
            undo()
        if not self.keep:
            shutil.rmtree(self.base, ignore_errors=True)
