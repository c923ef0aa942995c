#
# Dirty throttle tests: the reaper of dirty rings
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import re
import tempfile
import time
import unittest

from typing import Any

from stressvm.stressguest import Role
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import SOON, ThrottleTest
from dirtythrottle.migration import Migration

# Fills a ring of 4096 in 200 ms: five times a second without a reaper. The
# reaper may come 50 ms late for it, a quarter of that.
STEADY = Role("writer", rate=20000, mb=64)
# Writes nothing, and has memory that takes the migration its time
READER = Role("reader", mb=64)

# Long enough for a ring of 65536 to fill by more than a batch
FLOOD = Role("writer", mb=64)

SECONDS = 4
# Enough where a reaper that comes once a second must have come
FEW_SECONDS = 2
# Entries that are harvested before others get the lock; see kvm-dirty-ring.c
BATCH = 4096

MAX_INTERVAL_MS = 1000


class ReaperTest(ThrottleTest):
    needs = ("adaptive-reaper", "dirty-quota")

    def logging(self, *capabilities: str, roles: tuple[Role, ...] = (STEADY,),
                **options: Any) -> StressVM:
        """A VM whose memory is being tracked, by a migration that lasts"""
        vm = self.source(roles, **options)
        self.migration = Migration(vm, None, 1, 1, capabilities)
        self.begin()
        return vm

    def begin(self) -> None:
        self.migration.start()
        wait_until("active", SOON, lambda:
                   self.migration.poll().status == "active")

    def told(self) -> dict[str, Any]:
        return self.migration.poll().info["dirty-throttle"]

    def growth(self, seconds: float = SECONDS) -> dict[str, int]:
        """By how much the counters grow"""
        def counters() -> dict[str, int]:
            told = self.told()
            return {"full": told["ring-full-exits"], **told["reaper"]}

        before = counters()
        time.sleep(seconds)
        after = counters()
        return {name: after[name] - before[name] for name in before}

    def test_rings_do_not_get_full(self) -> None:
        # dirty-quota does nothing in the first pass, but lets counters be seen
        self.logging("dirty-quota")
        without = self.growth()
        # As many as fit, but for those that the reaper saves once a second
        self.assertGreaterEqual(without["full"], SECONDS)
        self.migration.cancel()

        self.migration.src.set_capabilities("adaptive-reaper")
        self.begin()
        wait_until("rate known", SOON, lambda:
                   self.told()["reaper"]["interval"] < MAX_INTERVAL_MS)
        adaptive = self.growth()
        self.assertLess(adaptive["full"], without["full"] / 2)
        # Not once for every look: at a quarter full at least
        self.assertLessEqual(adaptive["reaps"],
                             adaptive["pages"] / (self.ring / 4) + SECONDS + 1)

    def test_off_is_once_a_second(self) -> None:
        self.logging("dirty-quota")
        for _ in range(20):
            self.assertEqual(self.told()["reaper"]["interval"],
                             MAX_INTERVAL_MS)
            time.sleep(0.05)

    def test_idle_guest(self) -> None:
        self.logging("adaptive-reaper", roles=(READER,))
        grown = self.growth(FEW_SECONDS)
        self.assertEqual(self.told()["reaper"]["interval"], MAX_INTERVAL_MS)
        self.assertEqual(grown["full"], 0)
        self.assertLessEqual(grown["reaps"], FEW_SECONDS + 1)

    def test_counters(self) -> None:
        vm = self.logging("adaptive-reaper")
        grown = self.growth()
        for name in ("reaps", "pages", "time"):
            self.assertGreater(grown[name], 0, name)
        # No sync, so what is harvested again and again is new only once
        self.assertLess(grown["new-pages"], grown["pages"])
        told = self.told()
        self.assertEqual(told["mode"], "none")
        self.assertEqual(told["phase"], "off")
        self.assertEqual(told["vcpus"], [])
        shown = vm.cmd("human-monitor-command",
                       command_line="info migrate")
        self.assertRegex(shown, r"dirty rings: full \d+ times, harvested \d+")
        self.assertNotIn("dirty throttle:", shown)

    def test_goes_on_under_a_limit(self) -> None:
        """QEMU 7.2's stops while a limit is in service"""
        for capability in ("dirty-quota", "adaptive-reaper"):
            with self.subTest(capability):
                vm = self.logging(capability, ring=65536)
                vm.limit(20)
                self.assertGreaterEqual(self.growth(FEW_SECONDS)["reaps"],
                                        FEW_SECONDS - 1)
                vm.kill()

    def test_woken_by_a_full_ring(self) -> None:
        """A guest that was idle for long gets a shorter interval at once"""
        burst = Role("burst", rate=20000, mb=64, on=2000, off=3000)
        self.logging("adaptive-reaper", roles=(burst,))
        wait_until("a full ring", SOON, lambda:
                   self.told()["ring-full-exits"], 0.005)
        # A second until the reaper would look by itself is five rings full
        full = self.told()["ring-full-exits"]
        wait_until("shorter interval", SOON, lambda:
                   self.told()["reaper"]["interval"] < MAX_INTERVAL_MS / 2,
                   0.005)
        self.assertLessEqual(self.told()["ring-full-exits"], full + 1)

    def test_batches(self) -> None:
        with tempfile.NamedTemporaryFile("r") as log:
            vm = self.logging("adaptive-reaper", roles=(FLOOD, FLOOD),
                              ring=65536, args=[
                                  "-trace", "kvm_dirty_ring_reap",
                                  "-D", log.name])
            time.sleep(SECONDS)
            vm.kill()
            pages = [int(n) for n in
                     re.findall(r"reaped (\d+) pages", log.read())]
        self.assertEqual(max(pages), BATCH)


if __name__ == "__main__":
    unittest.main()
