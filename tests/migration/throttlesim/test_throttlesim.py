#
# Throttle simulator: what is around the program
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""THROTTLE_SIM is the program."""

import contextlib
import copy
import io
import os
import random
import subprocess
import tempfile
import unittest

from unittest import mock

from throttlesim import __main__ as all_scenarios
from throttlesim import search, series

PROGRAM = os.environ["THROTTLE_SIM"]

REFERENCE = os.path.join(all_scenarios.SCENARIOS, "reference.ini")


class SearchTest(unittest.TestCase):

    def test_nothing_breaks_a_promise(self) -> None:
        """In scenarios that are the same each time"""
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                tempfile.TemporaryDirectory() as found, \
                mock.patch("sys.argv", ["search", "--count", "60", "--found",
                                        found, PROGRAM]):
            failed = search.main()
        self.assertFalse(failed, out.getvalue())
        self.assertIn("60 scenarios from seed 1 on, 0", out.getvalue())

    def test_broken_promise(self) -> None:
        """It is kept, as short as it still fails"""
        made_up = search.made_up

        def hasty(rand: random.Random) -> search.Scenario:
            scenario = made_up(rand)
            scenario["expected"] = {"stall-ms": "0", "percent": "0"}
            scenario["vcpus 9"] = {"set-mib": "1000"}
            return scenario

        with contextlib.redirect_stdout(io.StringIO()), \
                tempfile.TemporaryDirectory() as found, \
                mock.patch.object(search, "made_up", hasty), \
                mock.patch("sys.argv", ["search", "--count", "1", "--found",
                                        found, PROGRAM]):
            self.assertTrue(search.main())
            with open(os.path.join(found, "seed-1.ini"),
                      encoding="utf-8") as file:
                text = file.read()
        self.assertIn("stall-ms = 0", text)
        self.assertNotIn("percent", text)
        self.assertLessEqual(text.count("[vcpus"), 1)

    def test_minimised(self) -> None:
        scenario: search.Scenario = {
            "vm": {"title": "t", "ram-mib": "1"}, "link": {"mib": "1"},
            "vcpus 0": {"set-mib": "1", "rate": "1"},
            "vcpus 1": {"set-mib": "2", "rate": "2"}}
        before = copy.deepcopy(scenario)
        short = search.minimised(
            scenario, lambda one: one.get("vcpus 1", {}).get("rate") == "2")
        self.assertEqual(short, {"vm": {}, "link": {},
                                 "vcpus 1": {"rate": "2"}})
        self.assertEqual(scenario, before)


class PageTest(unittest.TestCase):

    def test_all(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                tempfile.TemporaryDirectory() as where, \
                mock.patch("sys.argv", ["throttlesim", "--output", where,
                                        PROGRAM, REFERENCE]):
            self.assertFalse(all_scenarios.main())
            with open(os.path.join(where, "index.html"),
                      encoding="utf-8") as file:
                page = file.read()
        for name in ("none", "auto-converge", "dirty-quota", "equal-quota"):
            self.assertIn(name, out.getvalue())
            self.assertIn('<span>%s</span>' % name, page)
        self.assertIn(all_scenarios.title(REFERENCE), page)
        self.assertNotIn("http://", page.split("<script>", maxsplit=1)[0])

    def test_series(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            subprocess.run([PROGRAM, "--policy", "dirty-quota", "--timeline",
                            file.name, REFERENCE], check=True,
                           stdout=subprocess.DEVNULL)
            run = series.read(file.name)["reference", "dirty-quota"]
        self.assertEqual(run.vcpu_names(), ["writer", "reader"])
        names = [name for _, _, name in run.phases()]
        self.assertEqual(names[0], "first pass")
        self.assertIn("throttling", names)
        writer, reader = run.throughput()
        # A quarter is what the budget leaves it, and the reader has it all
        self.assertAlmostEqual(writer[1][-5], 25, delta=10)
        self.assertAlmostEqual(reader[1][-5], 100, delta=1)
        self.assertAlmostEqual(run.bandwidth()[1][0], 100, delta=1)
        self.assertGreater(run.penalties()[0][1][1][-5], 10)
        self.assertEqual(run.penalties()[1][1][1][-5], 0)


class ErrorTest(unittest.TestCase):

    def check(self, said: str, *args: str) -> None:
        done = subprocess.run([PROGRAM, *args], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(said, done.stderr)

    def test_no_scenario(self) -> None:
        self.check("no scenario is given")

    def test_no_such_policy(self) -> None:
        self.check("no policy 'magic'; there are none auto-converge",
                   "--policy", "magic", REFERENCE)

    def test_no_such_file(self) -> None:
        self.check("/nowhere", "/nowhere")

    def test_timeline_nowhere(self) -> None:
        self.check("/nowhere/t", "--timeline", "/nowhere/t", REFERENCE)


if __name__ == "__main__":
    unittest.main()
