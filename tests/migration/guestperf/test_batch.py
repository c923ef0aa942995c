#
# Migration test batches: order, resuming, what is left out
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import io
import os
import tempfile
import unittest

from unittest import mock

from guestperf.batch import Batch, duration, select, why_not
from guestperf.comparison import COMPARISONS, Comparison
from guestperf.hardware import Hardware
from guestperf.report import Report
from guestperf.scenario import Scenario
from guestperf.shell import BatchShell, Shell, peer
from guestperf.timings import Timings

KNOWN = frozenset(["auto-converge", "postcopy-ram", "dirty-limit",
                   "dirty-quota"])


class FakeEngine(object):
    """Makes reports without running anything"""

    def __init__(self, binary, runs, fail=(), accel="kvm"):
        self._binary = binary
        self._guest = "stress-guest"
        self._accel = accel
        self._sleep = 3
        self._transport = "unix"
        self._dst_host = "localhost"
        self._debug = False
        self._runs = runs
        self._fail = fail

    def run(self, hardware, scenario):
        self._runs.append((os.path.basename(self._binary), scenario._name))
        if scenario._name in self._fail:
            raise self._fail[scenario._name]
        return Report(hardware, scenario, [], Timings([]), Timings([]),
                      Timings([]), self._binary, self._dst_host, "kernel",
                      "initrd", self._transport, self._sleep, self._guest,
                      self._accel)


class BatchTest(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch(
            "stressvm.probe.capabilities", lambda binary: KNOWN))
        self.runs = []
        self.out = io.StringIO()
        self.hardware = Hardware(cpus=2, dirty_ring_size=4096)
        self.selected = select([Comparison("compr", [
            Scenario("one"), Scenario("two", dirty_quota=True)])], "*")

    def binary(self, name="qemu"):
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            with open(path, "w"):
                pass
            # Older than any report
            os.utime(path, (1, 1))
        return path

    def batch(self, resume=False, peers=(), fail=()):
        engines = [(None, FakeEngine(self.binary(), self.runs, fail))]
        engines += [(name, FakeEngine(self.binary(name), self.runs, fail))
                    for name in peers]
        batch = Batch(engines, self.hardware, self.directory, resume,
                      self.out)
        batch.run(self.selected)
        return batch

    def test_all(self):
        batch = self.batch()
        self.assertEqual(self.runs, [("qemu", "one"), ("qemu", "two")])
        self.assertEqual([os.path.relpath(name, self.directory)
                          for name in batch.reports],
                         ["compr/one.json", "compr/two.json"])
        report = Report.from_json_file(batch.reports[1])
        self.assertTrue(report._scenario._dirty_quota)
        self.assertIn("2 of 2: ", self.out.getvalue())

    def test_peers_take_turns(self):
        batch = self.batch(peers=["old"])
        self.assertEqual(self.runs, [("qemu", "one"), ("old", "one"),
                                     ("qemu", "two"), ("old", "two")])
        self.assertEqual(
            os.path.relpath(batch.reports[1], self.directory),
            "compr@old/one.json")
        self.assertEqual(
            [Report.from_json_file(name)._label for name in batch.reports],
            [None, "old", None, "old"])

    def test_resume(self):
        self.batch()
        del self.runs[:]
        batch = self.batch(resume=True)
        self.assertEqual(self.runs, [])
        self.assertEqual(len(batch.reports), 2)
        os.remove(batch.reports[0])
        self.batch(resume=True)
        self.assertEqual(self.runs, [("qemu", "one")])

    def test_without_resume_all_is_done_again(self):
        self.batch()
        self.batch()
        self.assertEqual(len(self.runs), 4)

    def test_resume_what_is_no_longer_the_same(self):
        self.batch()
        del self.runs[:]
        self.hardware._mem = 2
        self.batch(resume=True)
        self.assertEqual(len(self.runs), 2)
        self.selected[0][1]._bandwidth = 7
        self.batch(resume=True)
        self.assertEqual(self.runs[2:], [("qemu", "one")])

    def test_resume_with_a_new_binary(self):
        batch = self.batch()
        del self.runs[:]
        for name in batch.reports:
            os.utime(name, (0, 0))
        self.batch(resume=True)
        self.assertEqual(len(self.runs), 2)

    def test_resume_what_is_broken(self):
        batch = self.batch()
        del self.runs[:]
        with open(batch.reports[0], "w") as fh:
            fh.write("{")
        self.batch(resume=True)
        self.assertEqual(self.runs, [("qemu", "one")])

    def test_goes_on_after_a_failure(self):
        batch = self.batch(fail={"one": Exception("no luck")})
        self.assertEqual(len(self.runs), 2)
        self.assertEqual(len(batch.failed), 1)
        self.assertEqual(len(batch.reports), 1)
        self.assertIn("no luck", self.out.getvalue())

    def test_interrupt_leaves_what_is_complete(self):
        with self.assertRaises(KeyboardInterrupt):
            self.batch(fail={"two": KeyboardInterrupt()})
        self.assertEqual(os.listdir(os.path.join(self.directory, "compr")),
                         ["one.json"])

    def test_interrupted_while_writing(self):
        with mock.patch("os.replace", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                self.batch()
        self.assertEqual(os.listdir(os.path.join(self.directory, "compr")),
                         [])


class LeftOutTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(mock.patch(
            "stressvm.probe.capabilities", lambda binary: KNOWN))
        self.has_statistics = self.enterContext(mock.patch(
            "stressvm.probe.has_statistics", return_value=False))

    def reason(self, accel="kvm", ring=4096, **scenario):
        return why_not(FakeEngine("qemu", [], accel=accel),
                       Hardware(dirty_ring_size=ring),
                       Scenario("test", **scenario))

    def test_nothing(self):
        self.assertIsNone(self.reason(dirty_quota=True))
        self.assertIsNone(self.reason(accel="tcg", ring=0,
                                      auto_converge=True))

    def test_no_capability(self):
        self.assertIn("adaptive-reaper",
                      self.reason(adaptive_reaper=True))

    def test_no_ring(self):
        self.assertIn("ring", self.reason(ring=0, dirty_limit=True))
        self.assertIn("KVM", self.reason(accel="tcg", dirty_quota=True))
        # Page faults do, or auto-converge
        self.has_statistics.return_value = True
        self.assertIsNone(self.reason(ring=0, dirty_limit=True))
        self.has_statistics.return_value = False
        self.assertIsNone(self.reason(ring=0, dirty_quota=True,
                                      auto_converge=True))


class ComparisonsTest(unittest.TestCase):
    def test_names_are_unique(self):
        names = ["%s/%s" % (comparison._name, scenario._name)
                 for comparison, scenario in select(COMPARISONS, "*")]
        self.assertEqual(len(names), len(set(names)))

    def test_upstream_names(self):
        self.assertEqual(
            [scenario._x_vcpu_dirty_limit_period for _, scenario in
             select(COMPARISONS, "compr-dirty-limit-period/*")],
            [500, 800, 1000])
        self.assertEqual(
            [scenario._vcpu_dirty_limit for _, scenario in
             select(COMPARISONS, "compr-dirty-limit/*")], [10, 20, 50])

    def test_throttle(self):
        selected = [scenario for _, scenario in
                    select(COMPARISONS, "compr-throttle/*")]
        self.assertEqual(
            {tuple(scenario.capabilities()) for scenario in selected},
            {(), ("auto-converge",), ("dirty-limit",), ("dirty-quota",),
             ("auto-converge", "dirty-quota"), ("postcopy-ram",)})
        for scenario in selected:
            if scenario._dirty_limit:
                self.assertEqual(scenario._vcpu_dirty_limit,
                                 scenario._bandwidth // 2)
        # A slower link has more time
        self.assertEqual({(scenario._bandwidth, scenario.deadline())
                          for scenario in selected},
                         {(50, 0), (50, 24), (100, 0), (100, 12), (200, 0),
                          (200, 6)})
        for what in ("_bandwidth", "_roles"):
            self.assertGreater(
                len({repr(getattr(scenario, what))
                     for scenario in selected}), 1)


    def test_deadline(self):
        selected = [scenario for _, scenario in
                    select(COMPARISONS, "compr-deadline/*")]
        self.assertEqual([scenario.deadline() for scenario in selected],
                         [3, 5, 7, 8, 10, 15, 20])
        self.assertEqual({tuple(scenario.capabilities())
                          for scenario in selected}, {("dirty-quota",)})


class ShellTest(unittest.TestCase):
    def test_deadline(self):
        shell = Shell()
        for args, deadline in (
                ([], 0), (["--dirty-quota"], 0),
                (["--dirty-quota", "--dirty-quota-deadline", "9"], 9)):
            scenario = shell.get_scenario(shell._parser.parse_args(args))
            self.assertEqual(scenario.deadline(), deadline)


class BatchShellTest(unittest.TestCase):
    def test_peer(self):
        self.assertEqual(peer("sh=/bin/sh"), ("sh", "/bin/sh"))
        for bad in ("sh", "=/bin/sh", "sh=/does/not/exist"):
            with self.assertRaises(Exception, msg=bad):
                peer(bad)

    def test_exit_status(self):
        with tempfile.TemporaryDirectory() as directory:
            self.assertEqual(BatchShell().run(
                ["--binary", "/bin/false", "--filter", "nothing",
                 "--output", directory]), 0)

    def test_duration(self):
        self.assertEqual((duration(12.4), duration(180)),
                         ("12 s", "3 min"))


if __name__ == "__main__":
    unittest.main()
