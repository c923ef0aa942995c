#
# Migration test of the short throttle comparison
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Run compr-throttle-short, and check that what comes of it makes sense.

Without KVM it is run on TCG, which has no dirty ring, so with auto-converge
only. What is asserted are orders, counts and bounds with a reason, no speed.
The reports and the page stay in build/guestperf-short.
"""

import os
import shutil
import unittest

from guestperf.figures import Figures
from guestperf.report import Report
from guestperf.shell import BatchShell, PlotShell

from stressvm import probe
from stressvm.measure import MIB

OUTPUT = probe.build_dir() / "guestperf-short"
NAME = "compr-throttle-short"

# Small enough for all of it to take little more than a minute
MEMORY_GIB = "0.15"
RING = "4096"
# Seconds before and after each migration, less one
SLEEP = "3"

# A migration can send no fewer bytes than this many MiB: the two regions
REGIONS_MIB = 2 * 60

# The counters are sampled 100 times a second; a busy machine may miss some
LEAST_SAMPLES_PER_SECOND = 20


class ComparisonTest(unittest.TestCase):
    args = ()
    pattern = "*"

    @classmethod
    def setUpClass(cls):
        if cls is ComparisonTest:
            raise unittest.SkipTest("what both comparisons share")
        binary = probe.default_binary()
        if not os.access(binary, os.X_OK):
            raise unittest.SkipTest("no QEMU at %s" % binary)
        cls.check_machine()
        shutil.rmtree(OUTPUT, ignore_errors=True)
        cls.status = BatchShell().run([
            "--binary", binary, "--guest", "stress-guest", "--cpus", "2",
            "--mem", MEMORY_GIB, "--sleep", SLEEP, "--output", str(OUTPUT),
            "--filter", "%s/%s" % (NAME, cls.pattern), *cls.args])
        cls.reports = {}
        if cls.status == 0:
            for name in sorted(os.listdir(OUTPUT / NAME)):
                report = Report.from_json_file(OUTPUT / NAME / name)
                cls.reports[name[len("short-"):-len(".json")]] = report

    def setUp(self):
        self.assertEqual(self.status, 0)

    def each(self):
        """What is to be said of a report that fails, it, and its figures"""
        self.assertTrue(self.reports)
        return [(name, report, Figures(report))
                for name, report in self.reports.items()]

    def check_completed(self, *names):
        self.assertEqual(
            [name for name in names
             if not Figures(self.reports[name])._completed], [])

    def check_counters(self):
        for name, report, figures in self.each():
            samples = report._counters._samples
            seconds = samples[-1].time - samples[0].time
            self.assertGreater(len(samples),
                               seconds * LEAST_SAMPLES_PER_SECOND, name)
            for before, after in zip(samples, samples[1:]):
                self.assertLess(before.time, after.time, name)
                for i in range(2):
                    self.assertLessEqual(before.ops[i], after.ops[i], name)
            self.assertLess(samples[0].time, figures._begin, name)
            if figures._completed:
                self.assertGreater(samples[-1].time, figures._end, name)
            for vcpu in figures._vcpus:
                self.assertGreater(vcpu._before, 0, name)

    def check_continued(self):
        """Every vCPU goes on at the destination"""
        for name, report, figures in self.each():
            if figures._completed:
                samples = report._counters._samples
                done = figures._samples(figures._end, samples[-1].time)
                for i in range(2):
                    self.assertLess(done[0].ops[i], done[-1].ops[i], name)

    def check_progress(self):
        for name, report, figures in self.each():
            history = report._progress_history
            self.assertEqual(
                history[-1]._status,
                "completed" if figures._completed else "cancelled", name)
            for before, after in zip(history, history[1:]):
                self.assertLess(before._now, after._now, name)
            sent = [progress._ram._transferred_bytes for progress in history
                    if progress._ram._total_bytes]
            self.assertEqual(sent, sorted(sent), name)
            self.assertGreater(figures._sent / MIB, REGIONS_MIB, name)

    def check_figures(self):
        for name, _, figures in self.each():
            # The first pass cannot be faster than the link, but QEMU lets
            # the link run ahead by what it carries in 100 ms
            self.assertGreater(figures._total + 0.1, figures._model.first_pass,
                               name)
            for vcpu in figures._vcpus:
                # A gap holds at least the time that one operation takes
                self.assertGreater(vcpu._stall, 0, name)
                # No second can be worse than one without any work
                self.assertGreaterEqual(vcpu._worst, 0, name)
                self.assertLessEqual(vcpu._lost,
                                     figures._end - figures._begin, name)

    def check_page(self):
        for option, name in ((), "comparison.html"), (
                ("--text",), "comparison.txt"):
            name = str(OUTPUT / name)
            self.assertIn(PlotShell().run(
                [*option, "--output", name, str(OUTPUT)]), (0, None))
            with open(name) as fh:
                text = fh.read()
            for strategy in self.reports:
                self.assertIn(strategy, text)


class KvmTest(ComparisonTest):
    args = ("--dirty-ring-size", RING)

    @classmethod
    def check_machine(cls):
        if not probe.kvm_available():
            raise unittest.SkipTest("no usable /dev/kvm")
        if not probe.ring_available():
            raise unittest.SkipTest("this kernel's KVM has no dirty ring")

    def test_completed_where_it_must(self):
        self.assertEqual(
            sorted(self.reports),
            ["auto-converge", "dirty-limit", "dirty-quota",
             "dirty-quota-auto-converge", "dirty-quota-deadline", "none",
             "post-copy"])
        self.check_completed("auto-converge", "dirty-limit", "dirty-quota",
                             "dirty-quota-auto-converge",
                             "dirty-quota-deadline", "post-copy")

    def test_without_a_throttle_it_takes_longer(self):
        # The writer dirties twice what the link carries, if it has a CPU for
        # it. Else the migration ends by itself.
        for progress in self.reports["none"]._progress_history:
            self.assertIsNone(progress._throttle)
            self.assertFalse(progress._throttle_pcent)
        none = Figures(self.reports["none"])
        if none._completed:
            self.skipTest("the writer was too slow on this busy machine")
        for name in ("dirty-limit", "dirty-quota"):
            self.assertLess(Figures(self.reports[name])._total,
                            none._end - none._begin, name)

    def test_memory_is_intact(self):
        self.assertEqual({name: figures._errors
                          for name, _, figures in self.each()
                          if figures._completed and figures._errors != []},
                         {})

    def test_counters(self):
        self.check_counters()
        self.check_continued()

    def test_progress(self):
        self.check_progress()

    def test_figures(self):
        self.check_figures()

    def test_throttle(self):
        """What is to throttle says so, and only who writes is penalised"""
        for name in ("dirty-limit", "dirty-quota"):
            history = self.reports[name]._progress_history
            throttles = [progress._throttle for progress in history
                         if progress._throttle is not None]
            self.assertIn("throttling",
                          [throttle._phase for throttle in throttles], name)
            writer, reader = throttles[-1]._vcpus
            self.assertGreater(writer._penalty_time, 0, name)
            self.assertEqual(reader._penalty_time, 0, name)
        self.assertGreater(
            max(progress._throttle_pcent for progress in
                self.reports["auto-converge"]._progress_history), 0)

    def test_deadline(self):
        """QEMU has got it, and what was done for it is on record"""
        report = self.reports["dirty-quota-deadline"]
        self.assertNotEqual({progress._throttle._deadline_missed
                             for progress in report._progress_history
                             if progress._throttle is not None}, {None})
        writer, reader = report._record._vcpus
        self.assertGreater(writer._penalty_time, 0)
        self.assertEqual(reader._penalty_time, 0)
        self.assertEqual(report._record._changes[0]._phase, "first-pass")
        self.assertIsNotNone(report._record._throttled_after)
        for name in "none", "auto-converge":
            self.assertIsNone(self.reports[name]._record, name)

    def test_forecast(self):
        """QEMU told what would become of what it makes forecasts of"""
        told = {name: report._forecast
                for name, report in self.reports.items()}
        self.assertEqual(
            {name: forecast and forecast._strategy
             for name, forecast in told.items()},
            {"auto-converge": "auto-converge", "dirty-limit": None,
             "dirty-quota": "dirty-quota",
             "dirty-quota-auto-converge": "dirty-quota",
             "dirty-quota-deadline": "dirty-quota-deadline", "none": "none",
             "post-copy": None})
        # How much the writer dirties on a busy machine nobody knows
        for name in "dirty-quota", "dirty-quota-deadline":
            self.assertTrue(told[name]._ends, name)
            for vcpu in told[name]._slowed:
                self.assertEqual(vcpu._index, 0, name)
            self.assertIsNotNone(told[name]._least_time, name)
        self.assertIsNotNone(told["dirty-quota-deadline"]._deadline_missed)

    def test_forecast_while_it_runs(self):
        for name in "dirty-quota", "dirty-quota-deadline":
            history = self.reports[name]._progress_history
            self.assertEqual(
                {progress._throttle._forecast._strategy
                 for progress in history if progress._throttle is not None and
                 progress._throttle._forecast is not None}, {name})

    def test_page(self):
        self.check_page()


class TcgTest(ComparisonTest):
    """
    No KVM, so no dirty ring: auto-converge only

    TCG in QEMU 7.2 loses writes during a migration, so neither memory nor the
    counters that lie in it are judged at the destination.
    """
    args = ("--accel", "tcg")
    pattern = "short-auto-converge"

    @classmethod
    def check_machine(cls):
        if probe.kvm_available() and probe.ring_available():
            raise unittest.SkipTest(
                "there is KVM, so the whole comparison is run on it")
        print("No usable KVM: auto-converge only, on TCG")

    def test_completed(self):
        self.check_completed("auto-converge")

    def test_counters(self):
        self.check_counters()

    def test_progress(self):
        self.check_progress()

    def test_figures(self):
        self.check_figures()

    def test_forecast(self):
        """What all vCPUs dirty together is known here, too"""
        self.assertEqual(self.reports["auto-converge"]._forecast._strategy,
                         "auto-converge")

    def test_page(self):
        self.check_page()


def load_tests(loader, _tests, _pattern):
    """Not the class that both have in common"""
    suite = unittest.TestSuite()
    for case in (KvmTest, TcgTest):
        suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    unittest.main()
