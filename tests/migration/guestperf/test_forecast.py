#
# Migration test forecasts: who is asked, when, and for what
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from unittest import mock

# It puts QEMU's own Python package into the path, which the guest needs
from guestperf import engine # pylint: disable=unused-import
from guestperf import forecast
from guestperf.guest import Watch
from guestperf.hardware import Hardware
from guestperf.scenario import Scenario

NEVER = {"strategy": "none", "ends": False, "slowed": []}
QUOTA = {"strategy": "dirty-quota", "ends": True, "total-time": 7600,
         "downtime": 270, "throttled-time": 3300,
         "slowed": [{"cpu-index": 0, "share": 25.5}]}


class FakeVM(object):
    """Answers as QEMU does, and notes what it was asked, with its arguments"""

    def __init__(self, forecasts=(NEVER, QUOTA), knows=True):
        self.asked = []
        self.guest = mock.Mock()
        self._forecasts = list(forecasts)
        self._knows = knows
        self._status = iter(["measuring", "measured"])

    def wait_at_work(self):
        self.asked.append(("at work", {}))

    def cmd(self, name, **arguments):
        if name == "query-commands":
            return [{"name": other} for other in
                    ["migrate"] + [forecast.COMMAND] * self._knows]
        self.asked.append((name, arguments))
        if name == "query-dirty-rate":
            return {"status": next(self._status)}
        return {"forecasts": self._forecasts}


class StrategyTest(unittest.TestCase):
    def test_scenarios(self):
        for wanted, scenario in (
                ("none", {}),
                ("none", {"multifd": True}),
                ("auto-converge", {"auto_converge": True}),
                ("dirty-quota", {"dirty_quota": True}),
                # It is the fallback then
                ("dirty-quota", {"dirty_quota": True,
                                 "auto_converge": True}),
                ("dirty-quota-deadline", {"dirty_quota": True,
                                          "dirty_quota_deadline": 9}),
                # It is dirty-quota that keeps to it
                ("none", {"dirty_quota_deadline": 9}),
                (None, {"dirty_limit": True}),
                (None, {"dirty_limit": True, "dirty_quota": True}),
                (None, {"post_copy": True}),
                (None, {"pause": True}),
                (None, {"compression_mt": True}),
                (None, {"compression_xbzrle": True})):
            self.assertEqual(forecast.strategy_of(
                Scenario("test", **scenario)), wanted, scenario)


class AskTest(unittest.TestCase):
    @staticmethod
    def watched(vm, ring=4096, accel="kvm", run_up=3, **scenario):
        """What was forecast for it"""
        watch = Watch(vm, mock.Mock(), Hardware(dirty_ring_size=ring),
                      Scenario("test", **scenario), accel, run_up)
        watch._sampler = mock.MagicMock()
        watch._sampler.__enter__ = lambda self: vm.asked.append(
            ("samples", {}))
        vm.guest.new_epoch = lambda: vm.asked.append(("epoch", {}))
        with watch:
            watch.begin()
        return watch.forecast

    def test_for_its_strategy(self):
        told = self.watched(FakeVM(), dirty_quota=True)
        self.assertEqual((told._strategy, told._total_time),
                         ("dirty-quota", 7600))
        self.assertFalse(self.watched(FakeVM())._ends)

    def test_order(self):
        """Nobody counts while it is measured, nor gaps while it is asked"""
        vm = FakeVM()
        self.watched(vm)
        self.assertEqual(vm.asked, [
            ("at work", {}),
            ("calc-dirty-rate", {"calc_time": 3, "mode": "dirty-ring"}),
            ("query-dirty-rate", {}), ("query-dirty-rate", {}),
            ("samples", {}), (forecast.COMMAND, {}), ("epoch", {})])

    def test_mode(self):
        for wanted, ring, accel in (("dirty-ring", 4096, "kvm"),
                                    ("dirty-bitmap", 0, "kvm"),
                                    ("page-sampling", 0, "tcg")):
            vm = FakeVM()
            self.watched(vm, ring, accel)
            self.assertEqual(vm.asked[1][1]["mode"], wanted)

    def test_as_long_as_qemu_takes(self):
        for run_up, seconds in ((0, 1), (14, 14), (100, 60)):
            vm = FakeVM()
            self.watched(vm, run_up=run_up)
            self.assertEqual(vm.asked[1][1]["calc_time"], seconds)

    def test_qemu_without_forecasts(self):
        vm = FakeVM(knows=False)
        self.assertIsNone(self.watched(vm, dirty_quota=True))
        self.assertEqual([name for name, _ in vm.asked],
                         ["at work", "samples", "epoch"])

    def test_strategy_without_forecast(self):
        vm = FakeVM()
        self.assertIsNone(self.watched(vm, post_copy=True))
        self.assertEqual([name for name, _ in vm.asked],
                         ["at work", "samples", "epoch"])

    def test_strategy_that_cannot_be_had(self):
        self.assertIsNone(self.watched(FakeVM([NEVER]), dirty_quota=True))


if __name__ == "__main__":
    unittest.main()
