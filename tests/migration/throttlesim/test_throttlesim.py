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
import dataclasses
import io
import os
import random
import re
import subprocess
import tempfile
import unittest

from unittest import mock

from throttlesim import __main__ as all_scenarios
from throttlesim import batch, deadlines, firstpass, search, series

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


class DeadlineTest(unittest.TestCase):
    """A few points of the grid, of which the bounds are the goal"""

    # 432 MiB over 100 MB/s take 4.5 s; 200 of them are dirty by then, which
    # takes another 1.8 s until the rest can be switched over.
    GUEST = deadlines.Guest(set_mib=200, rate=3, link_mb=100, times=1)

    def outcome(self, deadline_s: int, guest: deadlines.Guest = GUEST
                ) -> deadlines.Outcome:
        one, = deadlines.outcomes(PROGRAM, [deadlines.Point(guest,
                                                            deadline_s)])
        return one

    def test_curve(self) -> None:
        self.assertAlmostEqual(self.GUEST.first_pass_s, 4.54, delta=0.01)
        self.assertAlmostEqual(self.GUEST.time_s(0), 6.34, delta=0.01)
        # Twice as long after the first pass, with half of the link for writers
        self.assertAlmostEqual(self.GUEST.time_s(0.5), 8.14, delta=0.01)
        self.assertAlmostEqual(self.GUEST.part(8.14), 0.5, delta=0.01)
        self.assertEqual(self.GUEST.part(6), 0)
        kinds = [self.GUEST.kind(deadline_s) for deadline_s in (4, 6, 7)]
        self.assertEqual(kinds, [deadlines.Kind.TOO_SHORT,
                                 deadlines.Kind.FIRST_PASS,
                                 deadlines.Kind.CURVE])

    def test_met(self) -> None:
        """With 5.5 s after the first pass, being early counts for little"""
        one = self.outcome(10)
        self.assertTrue(one.met)
        self.assertFalse(one.told)
        self.assertAlmostEqual(one.kept, 1, delta=deadlines.KEPT_PART)

    def test_first_pass(self) -> None:
        """Shorter than possible for who leaves the first pass alone"""
        one = self.outcome(6)
        self.assertTrue(one.met)
        self.assertFalse(one.told)
        # What vCPUs dirty that sleep for 99 % of the time
        self.assertLess(one.part, 0.1)

    def test_needs_nothing(self) -> None:
        """By the curve there is more time than these writers take"""
        quiet = deadlines.Guest(set_mib=50, rate=0.5, link_mb=100, times=1)
        one = self.outcome(8, quiet)
        self.assertTrue(one.met)
        self.assertEqual(one.kept, 1)

    def test_missed(self) -> None:
        """It is said while the first pass goes on, and when it can be over"""
        one = self.outcome(3)
        self.assertFalse(one.met)
        self.assertTrue(one.told_soon)
        self.assertLess(one.told_at_s, one.first_pass_s)
        self.assertLessEqual(one.told_off, deadlines.TOLD_PART)

    def test_summary(self) -> None:
        """Each of the grid is counted once, as what it is"""
        some = deadlines.grid()[::7]
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                mock.patch.object(deadlines, "grid", lambda: some), \
                mock.patch("sys.argv", ["deadlines", PROGRAM]):
            self.assertFalse(deadlines.main())
        lines = out.getvalue().splitlines()
        self.assertEqual(lines[0], deadlines.HEAD)
        self.assertEqual(lines.index(""), 1 + len(some))
        counted = re.findall(r"^(\d+) deadlines: ", out.getvalue(), re.M)
        self.assertEqual(len(counted), len(deadlines.Kind))
        self.assertEqual(sum(map(int, counted)), len(some))
        kept = re.findall(r"of +(\d+) keep what the curve", out.getvalue())
        self.assertEqual(sum(map(int, kept)), int(counted[-1]))


class FirstPassTest(unittest.TestCase):
    """When to begin, where it is clear what is better"""

    # It dirties all memory in a second: what the first pass sends after that is
    # in vain, and so is what vCPUs are slowed down for later.
    ALL = firstpass.Guest(link_mib=200, ram_mib=2000, set_part=0.98, rate=8,
                          vcpus=2, pattern="sweep", ring=4096)

    # The same at random, and little faster than the link: it takes most of the
    # first pass until so much is dirty that there is no doubt.
    SLOW = dataclasses.replace(ALL, set_part=0.95, rate=1.6, pattern="random")

    # A quarter of memory costs as much however early throttling begins, and the
    # guest the whole time.
    QUARTER = firstpass.Guest(link_mib=200, ram_mib=2000, set_part=0.25, rate=4,
                              vcpus=2, pattern="sweep", ring=4096)

    def outcome(self, guest: firstpass.Guest) -> firstpass.Outcome:
        one, = firstpass.outcomes(PROGRAM, [guest])
        return one

    def test_policies(self) -> None:
        """Of the same guest, from its beginning or from its second pass on"""
        rows, = batch.run(PROGRAM, [self.QUARTER.scenario()],
                          firstpass.POLICIES)
        at_once, after = (rows[policy] for policy in (firstpass.AT_ONCE,
                                                      firstpass.AFTER))
        # When the link is known
        self.assertLess(float(at_once["throttled_s"]), 0.5)
        # It takes ten seconds, less what can be switched over.
        self.assertAlmostEqual(float(after["first_pass_s"]), 9.7, delta=0.2)
        self.assertGreaterEqual(float(after["throttled_s"]),
                                float(after["first_pass_s"]))

    def test_all(self) -> None:
        one = self.outcome(self.ALL)
        self.assertFalse(one.trade)
        self.assertEqual(one.cheaper, one.prices[firstpass.AT_ONCE])
        self.assertTrue(one.good(firstpass.RULE))
        # Twice the first pass, or nearly so
        self.assertGreater(one.longer(firstpass.AFTER), 1.5)

    def test_expected(self) -> None:
        """It is as good to begin soon as at once"""
        one = self.outcome(self.SLOW)
        self.assertEqual(one.cheaper, one.prices[firstpass.AT_ONCE])
        self.assertTrue(one.good(firstpass.RULE))

    def test_twins(self) -> None:
        """A slow sweep over nearly all memory has one, one at random none"""
        sweep = dataclasses.replace(self.ALL, rate=1.7)
        missed = [self.outcome(sweep), self.outcome(self.SLOW)]
        self.assertFalse(missed[0].good(firstpass.RULE))
        found = firstpass.with_twin(PROGRAM, missed)
        self.assertEqual([one.guest for one in found], [sweep])

    def test_quarter(self) -> None:
        one = self.outcome(self.QUARTER)
        self.assertTrue(one.trade)
        self.assertTrue(one.good(firstpass.RULE))
        self.assertFalse(one.good(firstpass.AT_ONCE))
        self.assertLess(one.dearer(firstpass.RULE), firstpass.DEARER)
        self.assertGreater(one.dearer(firstpass.AT_ONCE), 2)

    def test_report(self) -> None:
        """Each guest is counted once, as what it is"""
        with contextlib.redirect_stdout(io.StringIO()) as out, \
                mock.patch("sys.argv", ["firstpass", "--count", "9", PROGRAM]):
            self.assertFalse(firstpass.main())
        kinds = re.findall(r"B +(\d+) .*%", out.getvalue())
        self.assertEqual(sum(map(int, kinds)), 9)
        self.assertIn("0 of all 27 migrations never end", out.getvalue())
        self.assertRegex(out.getvalue(), r"Of the \d in which it is not, no ")

    def test_good(self) -> None:
        """It is if it is near to the one that costs less work"""
        price = firstpass.Price

        def good(rule: firstpass.Price, at_once: firstpass.Price,
                 after: firstpass.Price) -> bool:
            return firstpass.Outcome(self.ALL, {
                firstpass.RULE: rule, firstpass.AT_ONCE: at_once,
                firstpass.AFTER: after}).good(firstpass.RULE)

        trade = price(True, 5, 8), price(True, 8, 5)
        self.assertFalse(good(price(True, 5.2, 8.7), *trade))
        self.assertTrue(good(price(True, 8.3, 5.4), *trade))
        self.assertFalse(good(price(True, 6, 6), *trade))
        clear = price(True, 5, 5), price(True, 8, 8)
        self.assertTrue(good(price(True, 5.2, 5.4), *clear))
        self.assertFalse(good(price(True, 5.4, 5), *clear))
        self.assertFalse(good(price(True, 5, 5.6), *clear))
        self.assertFalse(good(price(True, 8, 8), *clear))
        same = price(True, 5, 5), price(True, 8, 5)
        self.assertFalse(good(price(True, 8, 5), *same))


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
        # Those are for comparisons.
        self.assertNotIn("at-once", out.getvalue())
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
        # 405 MiB at 100 MiB/s, but for what can be switched over
        self.assertAlmostEqual(run.first_pass_end(), 4, delta=0.5)
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
