#
# Dirty throttle tests: the libraries of the benchmark do what they say
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import time
import unittest

from stressvm.stressguest import Role
from stressvm.waiting import wait_until

from dirtythrottle import kvmshim
from dirtythrottle.base import SOON, ThrottleTest
from dirtythrottle.kvmshim import KvmShim, KvmShimCounters
from dirtythrottle.migration import Migration
from dirtythrottle.reaping import REAPER, thread_cpu_ns

# Fills a ring of 4096 in 200 ms
STEADY = Role("writer", rate=20000, mb=64)
READER = Role("reader", mb=64)

SECONDS = 3


class LayoutTest(unittest.TestCase):
    def test_since(self):
        earlier = KvmShimCounters(4096, 1, 1, 10, 5, 9, 1, 100, 50, 0)
        later = KvmShimCounters(4096, 3, 2, 30, 6, 7, 2, 300, 60, 4)
        self.assertEqual(later.since(earlier),
                         KvmShimCounters(0, 2, 1, 20, 1, 7, 1, 200, 10, 4))

    def test_maximum(self):
        with KvmShim() as shim:
            os.pwrite(shim._file, bytes([1] * 80), 0)
            shim.new_maximum()
            counters = shim.read()
        self.assertEqual(counters.handled_max_ns, 0)
        self.assertNotIn(0, (counters.handled_cpu_ns, counters.resets))


class KvmShimTest(ThrottleTest):
    """What it counts is what QEMU counts"""

    needs = ("adaptive-reaper", "dirty-quota")

    def logged(self, role: Role, gears: bool = False) -> Migration:
        self.shim = self.enterContext(KvmShim(gears))
        vm = self.source((role,), args=kvmshim.QEMU_ARGS,
                         wrapper=self.shim.wrapper())
        # It does nothing in the first pass, but lets QEMU's counters be seen
        migration = Migration(vm, None, 1, 1, ["dirty-quota"]).start()
        wait_until("active", SOON, lambda: migration.poll().status == "active")
        return migration

    def test_counters(self) -> None:
        migration = self.logged(STEADY)

        def told() -> dict[str, int]:
            return migration.poll().info["dirty-throttle"]

        first, earlier = told(), self.shim.read()
        time.sleep(SECONDS)
        last, grown = told(), self.shim.read().since(earlier)
        self.assertEqual(self.shim.read().ring_size, self.ring)
        self.assertGreater(grown.full, SECONDS)
        # Nothing stands still between QEMU's counters and ours being read
        self.assertAlmostEqual(
            grown.full, last["ring-full-exits"] - first["ring-full-exits"],
            delta=1)
        self.assertAlmostEqual(grown.handled, grown.full, delta=1)
        self.assertAlmostEqual(
            grown.reset_entries,
            last["reaper"]["pages"] - first["reaper"]["pages"],
            delta=self.ring)
        # The vCPU has harvested its ring itself each time that it was full
        self.assertAlmostEqual(
            grown.reset_entries - grown.reaper_entries,
            grown.full * self.ring, delta=grown.full * self.ring / 10)
        self.assertGreaterEqual(grown.handled_ns, grown.handled)
        self.assertGreaterEqual(grown.handled_max_ns,
                                grown.handled_ns / grown.handled)
        self.assertEqual(grown.shortened, 0)

    def test_reaper_thread(self) -> None:
        pid = self.logged(STEADY).src.get_pid()
        before = thread_cpu_ns(pid, REAPER)
        wait_until("reaper seen at work", SOON,
                   lambda: thread_cpu_ns(pid, REAPER) > before)
        self.assertEqual(thread_cpu_ns(pid, "nobody"), 0)

    def test_gears(self) -> None:
        self.logged(STEADY, gears=True)
        # In the slowest gear the ring is full once at least, and that is left
        wait_until("a faster gear", SOON, lambda: self.shim.read().shortened)
        earlier = self.shim.read()
        time.sleep(SECONDS)
        grown = self.shim.read().since(earlier)
        self.assertGreater(grown.resets, 2 * SECONDS)
        self.assertLess(grown.full, SECONDS)
        self.assertGreater(grown.reaper_entries, 0)

    def test_slowest_gear(self) -> None:
        self.logged(READER, gears=True)
        time.sleep(SECONDS)
        self.assertEqual(self.shim.read().shortened, 0)


if __name__ == "__main__":
    unittest.main()
