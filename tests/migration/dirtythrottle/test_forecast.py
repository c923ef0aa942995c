#
# Dirty throttle tests: what is told of a migration beforehand
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from typing import Any

from stressvm.measure import MIB
from stressvm.vm import PLUGGABLE, StressVM
from stressvm.waiting import wait_until

from dirtythrottle import test_faults, test_quota
from dirtythrottle.base import EVENTUALLY, SMALL_READER, SOON, WRITER
from dirtythrottle.migration import Migration

MEASURE_SECONDS = 2

# What looks find besides, and what a busy machine keeps a writer from
TOLERANCE = 0.1

# MB/s. Less than half of what the writer dirties even on a busy machine, and
# much more
SLOW_LINK = 10
FAST_LINK = 2000


class ForecastTest(test_quota.QuotaTest):

    def measure(self, vm: StressVM, mode: str | None = None) -> None:
        vm.cmd("calc-dirty-rate", calc_time=MEASURE_SECONDS,
               mode=mode or ("dirty-ring" if self.ring else
                             "dirty-bitmap"))

    def measured(self, vm: StressVM, mode: str | None = None) -> None:
        self.measure(vm, mode)
        # Whoever measures again at once does so while vCPUs are still watched
        wait_until("a measurement", SOON, lambda:
                   vm.cmd("query-dirty-rate")["status"] == "measured",
                   interval=0)

    @staticmethod
    def report(vm: StressVM, bandwidth: int = SLOW_LINK,
               **arguments: int) -> dict[str, Any]:
        return vm.cmd("query-dirty-forecast", bandwidth=bandwidth,
                      **arguments)

    @staticmethod
    def forecasts(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {f["strategy"]: f for f in report["forecasts"]}

    def check_told_apart(self, report: dict[str, Any]) -> None:
        """One vCPU writes to its memory, and the other does not"""
        writer, reader = sorted(report["demands"],
                                key=lambda demand: demand["cpu-index"])
        for size, of in ((writer["write-set"], WRITER.mb),
                         # What the reader reads is in use as well
                         (report["memory"], WRITER.mb + SMALL_READER.mb)):
            self.assertGreater(size / MIB, of * (1 - TOLERANCE))
            self.assertLess(size / MIB, of * (1 + TOLERANCE) + 16)
        self.assertLess(reader["write-set"] / MIB, 1)

    def test_told_apart(self) -> None:
        vm = self.source()
        self.measured(vm)
        report = self.report(vm)
        self.check_told_apart(report)
        told = self.forecasts(report)
        self.assertFalse(told["none"]["ends"])
        self.assertTrue(told["dirty-quota"]["ends"])
        self.assertEqual([v["cpu-index"]
                          for v in told["dirty-quota"]["slowed"]], [0])
        self.assertNotIn("dirty-quota-deadline", told)
        # auto-converge does not tell them apart
        self.assertEqual(len(told["auto-converge"]["slowed"]), 2)
        told = self.forecasts(self.report(vm, FAST_LINK))
        self.assertTrue(told["none"]["ends"])
        self.assertEqual(told["dirty-quota"]["slowed"], [])

    def test_deadline(self) -> None:
        vm = self.source()
        self.measured(vm)
        told = self.forecasts(self.report(vm, deadline=60))
        self.assertFalse(told["dirty-quota-deadline"]["deadline-missed"])
        vm.set_parameters(dirty_quota_deadline=1)
        told = self.forecasts(self.report(vm))
        self.assertTrue(told["dirty-quota-deadline"]["deadline-missed"])

    def test_ceiling(self) -> None:
        vm = self.source()
        self.measured(vm)
        vm.set_parameters(max_cpu_throttle=40)
        told = self.forecasts(self.report(vm))
        self.assertFalse(told["dirty-quota"]["ends"])

    def test_sum(self) -> None:
        """Where memory is sampled, it is known only what all dirty together"""
        vm = self.source()
        self.measured(vm, "page-sampling")
        report = self.report(vm)
        demand, = report["demands"]
        self.assertNotIn("cpu-index", demand)
        self.assertGreater(demand["write-set"] / MIB, WRITER.mb / 2)
        told = self.forecasts(report)
        self.assertFalse(told["none"]["ends"])
        self.assertTrue(told["dirty-quota"]["ends"])

    def test_again(self) -> None:
        """What counts is what was measured last"""
        vm = self.source()
        for _ in range(3):
            self.measured(vm)
            self.check_told_apart(self.report(vm))
        vm.cmd("stop")
        self.measured(vm)
        self.assertEqual({d["write-set"] for d in self.report(vm)["demands"]},
                         {0})

    def test_limited(self) -> None:
        """A limit would hide what a vCPU dirties without it, so nobody knows"""
        vm = self.source()
        vm.limit(5)
        self.measured(vm)
        self.assertEqual(len(self.report(vm)["demands"]), 1)
        vm.unlimit()
        self.measure(vm)
        vm.limit(5)
        wait_until("a measurement", SOON, lambda:
                   vm.cmd("query-dirty-rate")["status"] == "measured")
        self.assertEqual(len(self.report(vm)["demands"]), 1)
        vm.unlimit()
        self.measured(vm)
        self.check_told_apart(self.report(vm))

    def test_migration_meanwhile(self) -> None:
        """It goes on as if nobody had measured, and memory is intact"""
        src = self.source()
        dst = self.destination(src)
        self.measure(src)
        self.start(src, dst).wait("completed", EVENTUALLY)
        self.check_memory(dst)

    def test_while_it_runs(self) -> None:
        """From what the first pass has shown"""
        src = self.source()
        dst = self.destination(src)
        polls: list[dict[str, Any]] = []
        self.start(src, dst, downtime=300).watch(
            EVENTUALLY, lambda poll: polls.append(poll.info))
        self.check_memory(dst)
        told = [info["dirty-throttle"]["forecast"] for info in polls
                if "forecast" in info.get("dirty-throttle", {})]
        self.assertTrue(told)
        self.assertEqual({f["strategy"] for f in told}, {"dirty-quota"})
        self.assertTrue(told[-1]["ends"])
        self.assertEqual({vcpu["cpu-index"] for forecast in told
                          for vcpu in forecast["slowed"]}, {0})

    def test_hotplug(self) -> None:
        """A vCPU that comes or goes meanwhile, and what is told of others"""
        vm = self.source(args=PLUGGABLE)
        self.measure(vm)
        vm.plug_memory()
        wait_until("a measurement", SOON, lambda:
                   vm.cmd("query-dirty-rate")["status"] == "measured")
        self.assertEqual(len(self.report(vm)["demands"]), 2)


class ForecastFaultsTest(test_faults.FaultsTest, ForecastTest):
    """The same by estimates"""


if __name__ == "__main__":
    unittest.main()
