#
# Dirty throttle tests: what a vCPU is charged, whoever else syncs dirty memory
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import tempfile
import time
import unittest

from typing import Any, Callable, Sequence

from stressvm.measure import MIB
from stressvm.stressguest import PAGE_SIZE, Role
from stressvm.timeline import ENDED
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle import kvmshim
from dirtythrottle.base import EVENTUALLY, READER
from dirtythrottle.migration import LASTING_LINK, Migration
from dirtythrottle.test_quota import QuotaTest

# All of it is dirty again a moment after it was found
HOT_MB = 8
HOT = Role("hot", pages=HOT_MB * MIB // PAGE_SIZE)

# Rings that take some time to be harvested, and vCPUs that dirty as much as
# they can meanwhile
LARGE_RING = 65536
FLOOD = Role("writer", mb=150)

# MB/s. What no vCPU dirties; it only has them watched
NO_LIMIT = 100000

# As often as a display is refreshed, or a little more
REFRESH_SECONDS = 0.03

# So long a test looks: several times the second of an epoch
WATCH_SECONDS = 3

# The second that rates are averaged over, and a little more
SETTLE_SECONDS = 2


class ChargingTest(QuotaTest):
    """A guest with a display that is refreshed all the time"""

    # A std VGA's index and data registers of VBE, and its attribute register
    INDEX = "h", 0x1ce
    DATA = "h", 0x1d0
    ATTRIBUTE = "b", 0x3c0
    # 640 x 480, 32 bits, a linear framebuffer; not blank
    MODE = ((INDEX, 1), (DATA, 640), (INDEX, 2), (DATA, 480),
            (INDEX, 3), (DATA, 32), (INDEX, 4), (DATA, 0x41),
            (ATTRIBUTE, 0x20))

    def source(self, roles: Sequence[Role] = (HOT, READER),
               **options: Any) -> StressVM:
        directory = self.enterContext(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-"))
        self.log = os.path.join(directory, "log")
        self.picture = os.path.join(directory, "picture.ppm")
        options.setdefault("args", ())
        # Without its BIOS, which this machine's KVM would emulate
        options["args"] = (*options["args"], "-device", "VGA,romfile=",
                           "-trace", "memory_region_sync_dirty",
                           "-trace", "kvm_dirty_ring_flush", "-D", self.log)
        vm = super().source(roles, **options)
        # A guest's driver does this
        for (size, port), value in self.MODE:
            vm.cmd("human-monitor-command",
                   command_line="o/%s 0x%x 0x%x" % (size, port, value))
        return vm

    def traced(self, words: str) -> int:
        """How many lines of the log have these words"""
        with open(self.log, encoding="ascii") as log:
            return sum(words in line for line in log)

    def refresh(self, vm: StressVM, seconds: float,
                each: Callable[[], Any] = lambda: None) -> None:
        """Refresh the display for so long, and call @each in between"""
        before = self.traced("kvm_dirty_ring_flush 1")
        deadline = time.monotonic() + seconds
        count = 0
        while time.monotonic() < deadline:
            vm.cmd("screendump", filename=self.picture)
            each()
            count += 1
            time.sleep(REFRESH_SECONDS)
        # Else there was nothing to test
        self.assertGreater(count, seconds)
        self.assertGreaterEqual(self.traced("kvm_dirty_ring_flush 1") - before,
                                count // 2)


class ChargingByCommandTest(ChargingTest):

    def test_hot_set_is_charged_once_a_second(self) -> None:
        src = self.source()
        src.limit(NO_LIMIT)
        time.sleep(SETTLE_SECONDS)
        rates = []
        self.refresh(src, WATCH_SECONDS, lambda: rates.append(
            src.limits()[0]["current-rate"]))
        # It is charged, and the second that a rate is averaged over has at
        # most two beginnings of an epoch in it
        self.assertGreaterEqual(max(rates), HOT_MB / 2)
        self.assertLessEqual(max(rates), 2 * HOT_MB)

    def test_no_sync_without_anybody_who_wants_one(self) -> None:
        """An epoch takes no BQL, and interrupts no vCPU"""
        src = self.source()
        src.limit(NO_LIMIT)
        rates = []
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            rates.append(src.limits()[0]["current-rate"])
            time.sleep(REFRESH_SECONDS)
        self.assertEqual(self.traced("kvm_dirty_ring_flush"), 0)
        # though pages do count anew, after the second in which they did first
        self.assertGreater(max(rates[len(rates) // 2:]), 0)

    def test_limit_holds(self) -> None:
        """Pages that were charged long ago are charged again"""
        limit = 5
        # More than the limit allows in an epoch, less than in this test
        src = self.source((Role("writer", rate=50000, mb=2 * limit), READER))
        full = self.rate(src)
        src.limit(limit, cpu_index=0)
        self.wait_slow(src, full)
        begin, before = time.monotonic(), src.guest.vcpu(0).ops
        self.refresh(src, WATCH_SECONDS)
        dirtied = (src.guest.vcpu(0).ops - before) * PAGE_SIZE / MIB
        took = time.monotonic() - begin
        # Half of it for what is dirtied between two looks
        self.assertLessEqual(dirtied, 1.5 * limit * took)
        self.assertGreater(dirtied, 0)


class ChargingInMigrationTest(ChargingTest):

    def charged(self, migration: Migration, vcpu: int = 0) -> float:
        """MB/s that a vCPU is charged"""
        return self.throttle(migration)["vcpus"][vcpu]["rate"]

    def first_pass(self, src: StressVM) -> Migration:
        """A migration whose first pass outlasts any test"""
        migration = self.start(src, link=LASTING_LINK)
        self.wait_phase(migration, "first-pass")
        # The set has been charged, and the second of that is over
        time.sleep(SETTLE_SECONDS)
        return migration

    def test_hot_set_is_charged_once_an_iteration(self) -> None:
        src = self.source()
        migration = self.first_pass(src)
        rates = []
        self.refresh(src, WATCH_SECONDS,
                     lambda: rates.append(self.charged(migration)))
        # But for the pages of its counters and its stack, nothing is new
        self.assertLess(max(rates), 1)

    def test_calc_dirty_rate(self) -> None:
        src = self.source()
        migration = self.first_pass(src)
        rates = []

        def measured() -> bool:
            rates.append(self.charged(migration))
            return src.cmd("query-dirty-rate")["status"] == "measured"

        for _ in range(WATCH_SECONDS):
            src.cmd("calc-dirty-rate", calc_time=1, mode="dirty-ring")
            wait_until("dirty rate", EVENTUALLY, measured)
        self.assertLess(max(rates), 1)

    def device_rates(self, migration: Migration, syncs: int) -> list[float]:
        """What so many syncs take for the work of devices"""
        seen = {}

        def note() -> None:
            poll = migration.poll()
            self.assertNotIn(poll.status, ENDED)
            info = poll.info.get("dirty-throttle")
            sync = poll.ram("dirty-sync-count")
            if info and sync > 2:
                seen[sync] = info["device-rate"]

        while len(seen) < syncs:
            self.refresh(migration.src, 1, note)
        return list(seen.values())

    def test_devices_still_show(self) -> None:
        """What vCPUs are charged is not more than what a sync finds"""
        # Each pass sends the hot set and as much of a device's
        src, _ = self.device_source((HOT, READER), HOT_MB, 0.1)
        rates = self.device_rates(self.start_lasting(src, link=20), 3)
        self.assertGreater(min(rates), 0, rates)

    def test_vcpus_are_no_devices(self) -> None:
        """What vCPUs are charged is not less than what a sync finds"""
        src = self.source((FLOOD, FLOOD), ring=LARGE_RING)
        # vCPUs are looked at all the time but not slowed, so it does not end
        src.limit(NO_LIMIT)
        rates = self.device_rates(Migration(
            src, None, 300, 1, ["dirty-limit"],
            {"vcpu_dirty_limit": NO_LIMIT}).start(), 6)
        self.assertEqual(max(rates), 0, rates)

    def test_one_flush_a_sync(self) -> None:
        """However many address spaces there are"""
        shim = kvmshim.build(self.enterContext(
            tempfile.TemporaryDirectory(prefix="dirtythrottle-")), "smm-shim.c")
        src = self.source(wrapper=("env", "LD_PRELOAD=" + shim))
        migration = self.start(src, link=100)
        wait_until("some syncs", EVENTUALLY,
                   lambda: migration.poll().ram("dirty-sync-count") > 4)
        migration.cancel()
        for listener in ("kvm-memory", "kvm-smram"):
            self.assertEqual(self.traced("kvm_dirty_ring_flush 1"),
                             self.traced("'%s' synced" % listener), listener)


if __name__ == "__main__":
    unittest.main()
