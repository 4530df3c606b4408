#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The configuration examples are good: both daemons accept theirs, and the coordinator the group."""

import json
import os
import socket
import subprocess
import tempfile
import time
import unittest

BUILD = os.path.join(os.environ["TIDE_BUILD"], "bin")
EXAMPLES = os.path.join(os.environ["TIDE_SOURCE"], "deploy", "examples")


def command(*arguments):
    return subprocess.run([os.path.join(BUILD, arguments[0]), *arguments[1:]], timeout=30,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Examples(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        at = self.folder.name
        for arguments in (["init", "--dir", f"{at}/pki", "--site", "example"],
                          ["issue", "--dir", f"{at}/pki", "--coordinator", "main", "--out",
                           f"{at}/coordinator"],
                          ["issue", "--dir", f"{at}/pki", "--participant", "web", "--out",
                           f"{at}/participant"]):
            done = command("tidemark", "pki", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
        os.rename(f"{at}/pki/ca.crt", f"{at}/ca.crt")
        with open(f"{at}/master.key", "w", encoding="ascii",
                  opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(os.urandom(32).hex() + "\n")

    def config(self, name):
        """The example with its folders and addresses on this machine."""
        with open(os.path.join(EXAMPLES, name), encoding="utf-8") as f:
            text = f.read()
        for folder in ("/etc/tidemark", "/var/lib/tidemark", "/run/tidemark"):
            self.assertIn(folder, text)
            text = text.replace(folder, self.folder.name)
        text = text.replace("192.0.2.10:9443", f"127.0.0.1:{free_port()}")
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def test_daemons_accept_their_files(self):
        for daemon in ("coordinator", "participant"):
            path = self.config(daemon + ".ini")
            done = command("tidemark-" + daemon, "-c", path, "--check-config")
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path, "a", encoding="utf-8") as f:
                f.write("\nno-such-key = 1\n")
            done = command("tidemark-" + daemon, "-c", path, "--check-config")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn("no-such-key", done.stdout + done.stderr)

    def test_the_group_is_applied(self):
        local = os.path.join(self.folder.name, "coordinator.ipc")
        daemon = subprocess.Popen([os.path.join(BUILD, "tidemark-coordinator"), "-c",
                                   self.config("coordinator.ini")], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while command("tidemark", "group", "list", "--local", local).returncode != 0:
                self.assertLess(time.monotonic(), deadline)
                self.assertIsNone(daemon.poll())
                time.sleep(0.05)
            done = command("tidemark", "group", "apply", "-f", os.path.join(EXAMPLES, "group.yaml"),
                           "--local", local)
            self.assertEqual(done.returncode, 0, done.stderr)
            done = command("tidemark", "group", "list", "-o", "json", "--local", local)
            self.assertIn("shop", json.dumps(json.loads(done.stdout)))
        finally:
            daemon.terminate()
            self.assertEqual(daemon.wait(20), 0)


if __name__ == "__main__":
    unittest.main()
