#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tidemark disk status|resync|detach|resize` and `tidemark events` against a real participant and a
tap that is played by hand, so that each state and answer of a tap can be had at once."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["TIDE_SOURCE"], "tests", "lib"))
from cluster import Process, wait_until  # noqa: E402
import faketap  # noqa: E402

BUILD = os.path.join(os.environ["TIDE_BUILD"], "bin")
SITE = "test"


def tidemark(*arguments):
    return subprocess.run([os.path.join(BUILD, "tidemark"), *arguments], timeout=40,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


class DiskCommands(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tidemark-test-")
        self.addCleanup(folder.cleanup)
        self.at = folder.name
        self.local = f"{self.at}/web.ipc"
        for arguments in (["init", "--site", SITE, "--dir", f"{self.at}/pki"],
                          ["issue", "--dir", f"{self.at}/pki", "--participant", "web", "--out",
                           f"{self.at}/web"]):
            done = tidemark("pki", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.tap = faketap.FakeTap(f"{self.at}/control")
        self.addCleanup(self.tap.close)
        self.daemon = None
        self.start()

    def start(self):
        net = f"127.{os.getpid() // 250 % 120 + 100}.{os.getpid() % 250 + 1}"
        with open(f"{self.at}/web.ini", "w", encoding="utf-8") as f:
            f.write(f"""[participant]
identity-cert = {self.at}/web.crt
identity-key = {self.at}/web.key
ca = {self.at}/pki/ca.crt
listen = {net}.7:20004
coordinator = {net}.8:9443
coordinator-identity = spiffe://{SITE}/coordinator/main
state = {self.at}/state
local = {self.local}
[member shop/web]
[member bank/web]
[disk shop/web/data]
tap = {self.at}/control
[disk bank/web/data]
tap = {self.at}/nothing
""")
        self.daemon = Process("participant", [os.path.join(BUILD, "tidemark-participant"), "-c",
                                              f"{self.at}/web.ini"], f"{self.at}/out")
        self.addCleanup(self.daemon.kill)
        wait_until("the tap is attached", 15, lambda: self.attached())

    def run_disk(self, verb, *arguments):
        return tidemark("disk", verb, *arguments, "--local", self.local)

    def attached(self):
        done = self.run_disk("status", "shop/web", "-o", "json")
        return done.returncode == 0 and json.loads(done.stdout)["disks"][0]["dirty_bytes"] \
            is not None

    def disk(self, vm="shop/web"):
        done = self.run_disk("status", vm, "data", "-o", "json")
        self.assertEqual(done.returncode, 0, done.stderr + self.daemon.text())
        disks = json.loads(done.stdout)["disks"]
        self.assertEqual(len(disks), 1)
        return disks[0]

    def wait_state(self, state, vm="shop/web"):
        return wait_until(f"state {state}", 10, lambda: (
            lambda d: d if d["state"] == state else None)(self.disk(vm)))

    def events(self, since=0):
        done = tidemark("events", "--local", self.local, "--since", str(since), "-o", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["events"]

    def types(self, since=0):
        """Of the tap that is played; there is no far side, which shipping says when it likes."""
        return [e["type"] for e in self.events(since) if e["disk"] == "data"
                and e["group"] == "shop" and not e["type"].startswith("shipping-")]

    def row(self, vm="shop/web"):
        done = self.run_disk("status", vm)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines()[1]

    def test_a_name_that_is_not_utf_8_is_shown_all_the_same(self):
        self.assertEqual(self.disk()["image"], "/image")
        self.tap.image = b"/im\xe9ge"
        self.tap.hang_up()
        wait_until("the name", 10, lambda: self.disk().get("image") == "/im?ge")

    def test_status_has_a_word_for_each_state(self):
        self.assertEqual(self.disk()["state"], "whole")
        self.assertEqual(self.disk()["why"], "")
        self.tap.set(whole=False, gap_reason=5, gap_lsn=4, copy="running", dirty_bytes=3 << 20,
                     copy_total=4 << 20, copy_rate=1 << 20, copy_lsn=5)
        disk = self.wait_state("copying")
        self.assertEqual((disk["why"], disk["dirty_bytes"], disk["copy_percent"],
                          disk["copy_left_s"]), ("overflow", 3 << 20, 25, 3))
        row = self.row()
        for cell in ("shop/web", "data", "copying", "overflow", "3.0 MiB", "25 %", "1.0 MiB/s",
                     "3 s", "0 B of 16.0 MiB"):
            self.assertIn(cell, row)
        table = tidemark("participant", "status", "--local", self.local).stdout
        self.assertIn("copy running 25 %, left 3.0 MiB, 1.0 MiB/s, 3 s left", table)
        self.tap.set(comparing=True)
        self.wait_state("comparing")
        table = tidemark("participant", "status", "--local", self.local).stdout
        self.assertIn("comparing 25 %, left 3.0 MiB", table)
        self.tap.set(copy="waiting")
        self.wait_state("waiting")
        self.tap.set(copy="failing")
        self.wait_state("not-whole")
        self.tap.set(logging=False)
        self.wait_state("not-logging")

    def test_what_is_not_known_is_a_dash(self):
        disk = self.disk("bank/web")
        self.assertEqual(disk["state"], "no-tap")
        self.assertIn("cannot connect", disk["why"])
        self.assertIsNone(disk["dirty_bytes"])
        self.assertIsNone(disk["lag_records"])
        self.assertRegex(self.row("bank/web"), r"no-tap +cannot connect.* +- +- +- +- +- +- +-$")
        self.assertIsNone(self.disk()["lag_records"])  # the far side was never reached

    def test_names(self):
        self.assertEqual(len(json.loads(self.run_disk("status", "-o", "json").stdout)["disks"]), 2)
        for arguments, status, text in ((("web",), 2, "give shop/web or bank/web"),
                                        (("db",), 4, "shop/web data, bank/web data"),
                                        (("shop/web", "log"), 4, 'no disk "shop/web log"'),
                                        (("a", "b", "c"), 2, "VM and DISK"),
                                        (("Web",), 2, "GROUP/MEMBER")):
            done = self.run_disk("status", *arguments)
            self.assertEqual((done.returncode, text in done.stderr), (status, True), done.stderr)

    def test_orders_reach_the_tap(self):
        self.tap.answer = lambda type, body: (0, "3 blocks to send")
        for arguments, order in ((("resync",), (faketap.RESYNC, 1, False)),
                                 (("resync", "--compare"), (faketap.RESYNC, 2, False)),
                                 (("resync", "--full"), (faketap.RESYNC, 3, False)),
                                 (("detach",), (faketap.DETACH, 0, False)),
                                 (("detach", "--force"), (faketap.DETACH, 0, True)),
                                 (("resize",), (faketap.RESIZE, 0, False))):
            done = self.run_disk(*arguments, "shop/web", "data")
            self.assertEqual((done.returncode, done.stdout), (0, "3 blocks to send\n"), done.stderr)
            self.assertEqual(self.tap.orders[-1], order)
        done = self.run_disk("resize", "shop/web", "data", "-o", "json")
        self.assertEqual(json.loads(done.stdout)["text"], "3 blocks to send")
        self.tap.answer = lambda type, body: (9, "2 clients are connected")
        done = self.run_disk("detach", "shop/web", "data")
        self.assertEqual(done.returncode, 9)
        self.assertIn('disk "data": 2 clients are connected', done.stderr)

    def test_wrong_orders(self):
        for arguments, status, text in ((("resync", "shop/web"), 2, "VM and DISK"),
                                        (("resync", "shop/web", "data", "--full", "--compare"), 2,
                                         "one of them"),
                                        (("resize", "shop/web", "log"), 4, "no disk"),
                                        (("resize", "web", "data"), 2, "several groups"),
                                        (("resync", "bank/web", "data"), 5, "cannot connect")):
            done = self.run_disk(*arguments)
            self.assertEqual((done.returncode, text in done.stderr), (status, True), done.stderr)
        self.assertEqual(self.tap.orders, [])

    def test_a_silent_tap_and_one_that_goes_away(self):
        silent = lambda type, body: None  # noqa: E731
        self.tap.answer = silent
        with subprocess.Popen([os.path.join(BUILD, "tidemark"), "disk", "resync", "shop/web",
                               "data", "--local", self.local], stderr=subprocess.PIPE,
                              text=True) as first:
            wait_until("the order is there", 10, lambda: self.tap.orders)
            done = self.run_disk("resize", "shop/web", "data")
            self.assertEqual(done.returncode, 13, done.stderr)
            self.assertIn("another order", done.stderr)
            self.tap.hang_up()
            self.assertIn("went away", first.communicate(timeout=10)[1])
            self.assertEqual(first.returncode, 5)
        wait_until("attached again", 10, self.attached)
        began = time.monotonic()
        done = self.run_disk("resync", "shop/web", "data")
        self.assertEqual(done.returncode, 5)
        self.assertIn("no answer within 10 s", done.stderr)
        self.assertGreater(time.monotonic() - began, 9)
        self.tap.answer = lambda type, body: (0, "now")
        self.assertEqual(self.run_disk("resync", "shop/web", "data").stdout, "now\n")

    def test_events_tell_what_happens(self):
        self.assertEqual(self.types(), ["attached"])
        since = self.events()[-1]["seq"]
        self.tap.set(whole=False, logging=False, gap_reason=5, gap_lsn=6)
        self.wait_state("not-logging")
        self.tap.set(logging=True, copy="running", copy_total=4096, copy_lsn=7, dirty_bytes=4096)
        self.wait_state("copying")
        self.tap.set(comparing=True)
        self.wait_state("comparing")
        self.tap.set(whole=True, copy="none", copy_total=0, copy_lsn=0, comparing=False,
                     dirty_bytes=0, size=9 << 20)
        self.wait_state("whole")
        self.assertEqual(self.types(since), ["log-off", "gap", "log-on", "copy-begun",
                                             "comparing-begun", "resized", "whole", "copy-ended",
                                             "comparing-ended"])
        since = self.events()[-1]["seq"]
        self.tap.stream = os.urandom(16)
        self.tap.hang_up()
        wait_until("a new stream", 10, lambda: "restreamed" in self.types(since))
        self.assertEqual(self.types(since)[:3], ["lost", "attached", "restreamed"])
        events = self.events()
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
        waits = next(e for e in events if e["type"] == "shipping-waits")
        self.assertIn("coordinator", waits["text"])
        gap = next(e for e in events if e["type"] == "gap")
        self.assertEqual((gap["group"], gap["member"], gap["text"], gap["count"]),
                         ("shop", "web", "gap at lsn 6: overflow", 1))
        # One line of the log for each, and no second.
        self.assertEqual(self.daemon.text().count("gap at lsn 6: overflow"), 1)
        self.assertIn("disk shop/web/data: gap at lsn 6", self.daemon.text())
        self.assertEqual(self.daemon.text().count("comparing begun"), 1)
        text = tidemark("events", "--local", self.local).stdout
        self.assertRegex(text, r" +\d+  \d{4}-.*Z  shop/web/data  gap: gap at lsn 6: overflow\n")

    def test_events_follow_and_the_daemon_begins_anew(self):
        with subprocess.Popen([os.path.join(BUILD, "tidemark"), "events", "--follow", "-o", "json",
                               "--local", self.local], stdout=subprocess.PIPE, text=True) as follow:
            self.assertEqual(json.loads(follow.stdout.readline())["seq"], 1)
            self.tap.set(whole=False, gap_reason=1, gap_lsn=1)
            while json.loads(follow.stdout.readline())["type"] != "gap":
                pass
            follow.send_signal(signal.SIGINT)
            self.assertEqual(follow.wait(10), 0)
        for i in range(4):
            self.tap.hang_up()
            wait_until("lost and back", 10,
                       lambda: self.types().count("attached") == i + 2)  # noqa: B023
        self.daemon.stop()
        newest = 1000
        self.start()
        done = tidemark("events", "--local", self.local, "--since", str(newest))
        self.assertEqual(done.returncode, 0)
        self.assertIn("begun anew", done.stderr)
        self.assertIn("attached", done.stdout)
        self.daemon.stop()
        self.assertEqual(tidemark("events", "--local", self.local).returncode, 5)

    def test_events_arguments(self):
        for arguments in (("--since", "x"), ("--since", "-1"), ("more",), ("-o", "xml")):
            self.assertEqual(tidemark("events", "--local", self.local, *arguments).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
