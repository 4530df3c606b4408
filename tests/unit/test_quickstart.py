#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The quickstart's own judgement: what lets it pass and what must not; and its cleaning up."""

import os
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
import quickstart  # noqa: E402

OPTIONS = types.SimpleNamespace(points=20)


def point(held=(1, 1, 0)):
    return {"members": [{"member": name, "disks": [
        {"hold_us": 1000, "writes_held": count}, {"hold_us": 3000, "writes_held": 0}]}
        for name, count in zip("abc", held)]}


def results(count, verdict="consistent", held=(1, 1, 0)):
    return [(point(held), verdict, 10, "") for _ in range(count)]


def site(rate):
    return types.SimpleNamespace(canary_end={"steps_per_s": rate})


def judge(held, free, rate=100, free_rate=100):
    return quickstart.judge_all(site(rate), held, site(free_rate), free, OPTIONS)


class Judgement(unittest.TestCase):
    good = results(20)
    control = results(15) + results(5, "torn")

    def test_passes(self):
        reasons, line = judge(self.good, self.control)
        self.assertEqual(reasons, [])
        self.assertEqual(line, "quickstart: 20 points, 0 torn; without the hold: 5 of 20 torn")

    def fails(self, word, *arguments, **named):
        reasons, _ = judge(*arguments, **named)
        self.assertEqual(len(reasons), 1, reasons)
        self.assertIn(word, reasons[0])

    def test_too_few_points(self):
        self.fails("only 19 points", results(19), self.control)

    def test_a_torn_point(self):
        self.fails("1 points are not", self.good + results(1, "torn"), self.control)

    def test_a_point_that_cannot_be_judged_is_not_consistent(self):
        self.fails("1 points are not", self.good + results(1, "unjudged"), self.control)
        self.fails("1 points are not", self.good + results(1, "file system"), self.control)

    def test_a_control_that_is_not_torn(self):
        self.fails("no point of the control", self.good, results(20))

    def test_a_control_that_cannot_be_judged(self):
        self.fails("control could not", self.good, self.control + results(1, "unjudged"))

    def test_holds_that_held_nothing(self):
        self.fails("only 14 points held", results(14) + results(6, held=(5, 0, 0)), self.control)

    def test_rates_too_far_apart(self):
        self.fails("factor of 2", self.good, self.control, rate=100, free_rate=201)
        self.fails("factor of 2", self.good, self.control, rate=201, free_rate=100)
        self.assertEqual(judge(self.good, self.control, 100, 200)[0], [])

    def test_longest_hold_of_a_member(self):
        self.assertEqual(quickstart.holds(point()), {"a": 3000, "b": 3000, "c": 3000})


def copied(size=sum(quickstart.OLD_FILES.values()), whole_after=3.0, early=0):
    disk = types.SimpleNamespace(title="web/data", whole_after=whole_after, copied=size)
    return types.SimpleNamespace(name="hold", disks=[disk, disk], early_points=early)


class Copies(unittest.TestCase):
    def test_judgement(self):
        self.assertEqual(quickstart.judge_copies(copied()), [])
        for word, site in (("did not become whole", copied(whole_after=None)),
                           ("sent 0 bytes", copied(0)), ("2 points before", copied(early=2))):
            self.assertIn(word, quickstart.judge_copies(site)[0])

    def test_old_files(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(folder + "/before")
            self.assertIn("not the files", quickstart.check_old_files(folder, "web-data"))
            for name in quickstart.OLD_FILES:
                with open(f"{folder}/before/{name}", "wb") as f:
                    f.write(quickstart.old_content("web-data", name))
            self.assertIsNone(quickstart.check_old_files(folder, "web-data"))
            self.assertIn("is not what", quickstart.check_old_files(folder, "web-log"))
            with open(f"{folder}/before/table", "r+b") as f:
                f.seek(4096)
                f.write(b"other")
            self.assertIn("'table' is not what", quickstart.check_old_files(folder, "web-data"))


class Cleaning(unittest.TestCase):
    def test_ends_what_an_earlier_run_left_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            mine = quickstart.Keeper(folder).spawn("left", ["sleep", "60"], folder + "/log")
            other = subprocess.Popen(["sleep", "60"])
            try:
                later = quickstart.Keeper(folder)
                self.assertEqual([each[0] for each in later.recorded()], [mine.pid])
                with open(later.pids, "a", encoding="utf-8") as f:
                    f.write(f"{other.pid} 1 reused\n")  # that pid with another start time
                later.clean()
                self.assertEqual(mine.wait(10), -15)
                self.assertIsNone(other.poll())
                self.assertFalse(os.path.exists(later.pids))
            finally:
                other.kill()
                other.wait()

    def test_images_are_compared_with_their_holes(self):
        with tempfile.TemporaryDirectory() as folder:
            hashes = []
            for at in (0, 0, 4 << 20):
                path = os.path.join(folder, "image")
                with open(path, "wb") as f:
                    f.truncate(8 << 20)
                    f.seek(at)
                    f.write(b"x" * 4096)
                hashes.append(quickstart.file_hash(path))
            self.assertEqual(hashes[0], hashes[1])
            self.assertNotEqual(hashes[0], hashes[2])


if __name__ == "__main__":
    unittest.main()
