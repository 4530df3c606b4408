#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tidemark disk replay` and `tidemark disk check`: an image whose tap was killed, and whose last writes
it lost, is whole again from its log; a running tap, a log of another image, an image that others
wrote, each is refused; nothing is overstated."""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.environ["TIDE_SOURCE"], "tests", "lib"))
from cluster import Nbd, Process, wait_until  # noqa: E402

BUILD = os.path.join(os.environ["TIDE_BUILD"], "bin")
ATTRIBUTE = "user.tidemark"
SIZE = 4 << 20


class Offline(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tidemark-test-")
        self.addCleanup(folder.cleanup)
        self.at = folder.name
        self.image = f"{self.at}/image"
        self.log = f"{self.at}/log"
        with open(self.image, "wb") as f:
            f.truncate(SIZE)

    def tidemark(self, *arguments):
        return subprocess.run([os.path.join(BUILD, "tidemark"), *arguments], timeout=60,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)

    def start(self, log=None):
        for name in ("nbd", "control"):
            if os.path.exists(f"{self.at}/{name}"):
                os.unlink(f"{self.at}/{name}")
        tap = Process("tap", ["nbdkit", "-f", "-U", f"{self.at}/nbd",
                              os.path.join(BUILD, "nbdkit-tidemark-plugin.so"),
                              f"disk={self.image}", f"log={log or self.log}",
                              f"control={self.at}/control", "log-size=8M"], f"{self.at}/out")
        self.addCleanup(tap.kill)
        wait_until("the tap serves", 15, self.serves)
        return tap

    def serves(self):
        try:
            Nbd(f"{self.at}/nbd").close()
        except OSError:
            return False
        return True

    def write(self, count, value):
        nbd = Nbd(f"{self.at}/nbd")
        for i in range(count):
            nbd.write(i * 8192, bytes([value]) * 4096)
        nbd.close()

    def lose_writes(self):
        """As if the page cache had gone: the content, not the times."""
        times = os.stat(self.image)
        with open(self.image, "r+b") as f:
            f.write(bytes(SIZE))
        os.utime(self.image, ns=(times.st_atime_ns, times.st_mtime_ns))

    def content(self):
        with open(self.image, "rb") as f:
            return f.read()

    def expected(self, count, value):
        blocks = (bytes([value]) * 4096 + bytes(4096)) * count
        return blocks + bytes(SIZE - len(blocks))

    def fails(self, status, text, *arguments):
        done = self.tidemark(*arguments)
        self.assertEqual((done.returncode, text in done.stderr), (status, True),
                         done.stderr + done.stdout)
        return done

    def test_replay_gives_back_what_the_image_lost(self):
        tap = self.start()
        self.write(20, 7)
        tap.kill()
        self.lose_writes()
        self.assertNotEqual(self.content(), self.expected(20, 7))
        done = self.tidemark("disk", "replay", self.log, self.image)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"replayed lsn 2 to 21 of log")
        self.assertEqual(self.content(), self.expected(20, 7))
        done = self.tidemark("disk", "replay", self.log, self.image)  # and again: nothing is left
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("nothing to replay: its tap had ended cleanly", done.stdout)
        self.assertEqual(self.content(), self.expected(20, 7))
        self.start()  # the log goes on
        self.write(1, 9)

    def test_a_running_tap_is_left_alone(self):
        tap = self.start()
        self.write(1, 7)
        self.fails(13, "is served by a tap now", "disk", "replay", self.log, self.image)
        self.assertTrue(tap.running())
        other = f"{self.at}/other"
        tap.kill()
        first = self.log
        tap = self.start(other)  # its image is served, with another log
        done = self.tidemark("disk", "replay", first, self.image)
        # 9: where the tap has noted at the image which log is its own.
        self.assertIn((done.returncode, True), [(1, "is served by another tap" in done.stderr),
                                                (9, "belongs to log" in done.stderr)], done.stderr)
        self.assertTrue(tap.running())

    def test_an_image_that_others_wrote_is_left_alone(self):
        tap = self.start()
        self.write(5, 7)
        tap.kill()
        with open(self.image, "r+b") as f:
            f.write(b"others")
        later = os.stat(self.image).st_mtime_ns + 3600 * 10**9
        os.utime(self.image, ns=(later, later))
        before = self.content()
        self.fails(9, "changed while no tap ran (gap: mtime)", "disk", "replay", self.log,
                   self.image)
        self.assertEqual(self.content(), before)

    def test_what_is_not_there(self):
        self.fails(4, "no log of a tap", "disk", "replay", f"{self.at}/nothing", self.image)
        self.assertFalse(os.path.exists(f"{self.at}/nothing"))
        os.mkdir(f"{self.at}/empty")
        self.fails(4, "no log of a tap", "disk", "replay", f"{self.at}/empty", self.image)
        self.assertEqual(os.listdir(f"{self.at}/empty"), [])
        self.start().stop()
        self.fails(4, "nothing", "disk", "replay", self.log, f"{self.at}/nothing")
        self.fails(4, "plugin", "disk", "replay", "--plugin", f"{self.at}/p", self.log, self.image)
        self.fails(2, "LOG-FOLDER and IMAGE", "disk", "replay", self.log)
        self.fails(2, "--timeout", "disk", "replay", self.log, self.image, "--timeout", "0")

    def test_a_tap_that_does_not_end_is_ended(self):
        self.start().stop()
        path = f"{self.at}/bin"
        os.mkdir(path)
        with open(f"{path}/nbdkit", "w", encoding="utf-8") as f:  # in place of nbdkit
            f.write(f"#!/bin/sh\necho $$ > {self.at}/pid\nexec sleep 600\n")
        os.chmod(f"{path}/nbdkit", 0o755)
        done = subprocess.run([os.path.join(BUILD, "tidemark"), "disk", "replay", self.log,
                               self.image, "--timeout", "1"], timeout=60, capture_output=True,
                              text=True, check=False,
                              env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"})
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertIn("did not end within 1 s", done.stderr)
        with open(f"{self.at}/pid", encoding="utf-8") as f:
            pid = int(f.read())
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    def test_ctrl_c_ends_the_tap_too(self):
        self.start().stop()
        path = f"{self.at}/bin"
        os.mkdir(path)
        with open(f"{path}/nbdkit", "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\necho $$ > {self.at}/pid.new\nmv {self.at}/pid.new {self.at}/pid\n"
                    "exec sleep 600\n")
        os.chmod(f"{path}/nbdkit", 0o755)
        with subprocess.Popen([os.path.join(BUILD, "tidemark"), "disk", "replay", self.log,
                               self.image], stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}) as replay:
            wait_until("it runs", 10, lambda: os.path.exists(f"{self.at}/pid"))
            replay.send_signal(signal.SIGINT)
            text = replay.communicate(timeout=20)[1]
        self.assertEqual(replay.returncode, 1)
        self.assertIn("interrupted", text)
        with open(f"{self.at}/pid", encoding="utf-8") as f:
            pid = int(f.read())
        with self.assertRaises(ProcessLookupError):
            os.kill(pid, 0)

    def stream(self):
        done = self.tidemark("hrl", "show", f"{self.log}/ring-000", "-o", "json")
        return done.stdout.split('"stream": "')[1][:32]

    def note(self, text):
        try:
            os.setxattr(self.image, ATTRIBUTE, text.encode())
        except OSError as e:
            self.skipTest(f"no user attributes in {self.at}: {e}")

    def test_check(self):
        if ATTRIBUTE in os.listxattr(self.image):
            os.removexattr(self.image, ATTRIBUTE)
        done = self.tidemark("disk", "check", self.image)
        self.assertEqual((done.returncode, "no tap has noted" in done.stdout), (0, True), done.stderr)
        tap = self.start()
        self.write(3, 7)
        tap.kill()
        tap = self.start()  # what lies before its start is in the image already
        self.write(3, 8)
        tap.kill()
        stream = self.stream()
        rest = f"stream={stream} log={self.log} flush=both"
        self.note(f"v1 state=clean {rest}")
        done = self.tidemark("disk", "check", self.image)
        self.assertEqual((done.returncode, "ended cleanly" in done.stdout), (0, True), done.stderr)
        for state in ("open", "gap"):
            self.note(f"v1 state={state} {rest}")
            done = self.fails(9, "has 3 changes, 12.0 KiB, up to lsn 8", "disk", "check", self.image)
            self.assertIn(f"({state})", done.stderr)
            self.assertIn(f"tidemark disk replay '{self.log}' '{self.image}'", done.stderr)
        self.note(f"v1 state=open {rest[:-4]}log")
        self.fails(9, "what was flushed may be in its log alone", "disk", "check", self.image)
        done = self.tidemark("disk", "check", self.image, "-o", "json")
        self.assertEqual(done.returncode, 9)
        self.assertIn(f'"stream": "{stream}"', done.stdout)
        self.note(f"v1 state=open stream={'ab' * 16} log={self.log} flush=both")
        self.fails(9, "is now of another stream", "disk", "check", self.image)
        self.fails(9, "belongs to log", "disk", "replay", self.log, self.image)
        self.note(f"v1 state=open stream={stream} log={self.at}/gone flush=both")
        self.fails(9, "its log cannot be read", "disk", "check", self.image)
        self.note("v2 anything")
        self.fails(8, "v2", "disk", "check", self.image)
        self.note("rubbish")
        self.fails(7, "rubbish", "disk", "check", self.image)

    def test_check_where_nothing_can_be_told(self):
        self.fails(14, "no user attributes", "disk", "check", "/proc/version")
        self.fails(14, "no regular file", "disk", "check", "/dev/null")
        self.fails(4, "nothing", "disk", "check", f"{self.at}/nothing")
        self.fails(2, "IMAGE", "disk", "check")


if __name__ == "__main__":
    unittest.main(verbosity=2)
