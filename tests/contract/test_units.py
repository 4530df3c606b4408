#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The systemd units: systemd-analyze verify says nothing of them, and of a spoilt one it does; what
they start exists under the names that the build gives; the tap's limits are what it asks for."""

import os
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.path.join(os.environ["TIDE_BUILD"], "bin")
UNITS = os.path.join(os.environ["TIDE_SOURCE"], "deploy", "systemd")
INSTANCE = "web-data"


def read(name):
    with open(os.path.join(UNITS, name), encoding="utf-8") as f:
        return f.read()


class Units(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def place(self, spoil=lambda text: text):
        """The units with programs and pages where this build has them."""
        for name in os.listdir(UNITS):
            text = spoil(read(name)).replace("/usr/local/bin", BUILD)
            text = text.replace("/usr/local/lib/tidemark", BUILD)
            text = text.replace("/usr/local/share/doc/tidemark", os.environ["TIDE_SOURCE"])
            text = text.replace("ReadWritePaths=/var/lib/tidemark /run/tidemark", "ReadWritePaths=/tmp")
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
                f.write(text)

    def verify(self):
        units = [f"tidemark-tap@{INSTANCE}.socket", f"tidemark-tap@{INSTANCE}.service",
                 "tidemark-participant.service", "tidemark-coordinator.service"]
        # The instances are found through the folder of their template.
        done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no",
                               *[os.path.join(self.folder, u) for u in units]],
                              env={**os.environ, "SYSTEMD_UNIT_PATH": self.folder + ":"}, timeout=60,
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
    def test_verify_is_clean(self):
        self.place()
        status, text = self.verify()
        self.assertEqual((status, text), (0, ""))
        self.place(lambda text: text.replace("Restart=always", "Restart=allways"))
        _, text = self.verify()
        self.assertIn("allways", text)

    def test_programs_exist(self):
        for unit in ("tidemark-participant.service", "tidemark-coordinator.service",
                     "tidemark-tap@.service"):
            for word in read(unit).split():
                if word.startswith(("ExecStart=/usr/local/bin/", "/usr/local/lib/tidemark/")):
                    self.assertTrue(os.path.exists(os.path.join(BUILD, os.path.basename(word))), word)
                    break
            else:
                self.fail(f"{unit} starts nothing of ours")

    def test_real_time_is_allowed(self):
        """The threads that a hold waits for ask for SCHED_RR 10."""
        for unit, source in (("tidemark-tap@.service", "participant/tap/control.c"),
                             ("tidemark-participant.service", "participant/holder.c")):
            text = read(unit).splitlines()
            self.assertIn("LimitRTPRIO=10", text)
            self.assertNotIn("RestrictRealtime=yes", text)
            with open(os.path.join(os.environ["TIDE_SOURCE"], source), encoding="utf-8") as f:
                self.assertIn("#define PRIORITY 10", f.read())

    def test_what_the_tap_needs(self):
        text = read("tidemark-tap@.service").splitlines()
        for line in ("LimitMEMLOCK=infinity", "OOMScoreAdjust=-900", "StartLimitIntervalSec=0"):
            self.assertIn(line, text)
        for forbidden in ("ProcSubset=pid", "PrivateDevices=yes", "DynamicUser=yes"):
            self.assertNotIn(forbidden, text)


if __name__ == "__main__":
    unittest.main()
