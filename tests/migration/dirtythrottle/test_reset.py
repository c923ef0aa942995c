#
# Dirty throttle tests: dirty rings that are reset bit by bit, or come and go
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import time
import unittest

from stressvm import probe
from stressvm.stressguest import Role, Vcpu
from stressvm.vm import PLUGGABLE, StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import (
    EVENTUALLY, SMALL_READER, SOON, WRITER, ThrottleTest
)
from dirtythrottle.migration import Migration
from dirtythrottle.shimtest import ShimTest

# Small, so that rings are full and are reset many times a second
SMALL_RING = 1024
# So large that pages lie in it until somebody asks for them
LARGE_RING = 65536

# As fast as it can: whatever happens while rings are reset happens often
FLOOD = Role("writer", mb=64)
SMALL_FLOOD = Role("writer", mb=32)

# MB/s. What no vCPU dirties; it only keeps the rings in use
NO_LIMIT = 100000


class ResetTest(ShimTest):
    """KVM_RESET_DIRTY_RINGS may stop early when a signal is pending"""

    ring = SMALL_RING

    def migrate(self, **environment: int) -> None:
        self.change(**environment)
        src = self.source((WRITER, WRITER))
        dst = self.destination(src)
        # Penalties interrupt vCPUs, also while these reset their rings
        src.limit(20)
        Migration(src, dst, link=100, downtime=100).start().wait(
            "completed", EVENTUALLY)
        self.check_changed()
        self.check_memory(dst)

    def test_interrupted(self) -> None:
        self.migrate(RESET_SHIM_EINTR=3)

    def test_interrupted_before_the_first_entry(self) -> None:
        self.migrate(RESET_SHIM_ZERO=3)

    def test_in_parts(self) -> None:
        self.migrate(RESET_SHIM_PARTS=5)

    def test_in_parts_and_interrupted(self) -> None:
        self.migrate(RESET_SHIM_EINTR=1, RESET_SHIM_ZERO=1,
                     RESET_SHIM_PARTS=3)

    def test_signals_wait(self) -> None:
        """
        A KVM may forget to protect pages when it is interrupted

        Real kicks come at that moment too rarely for a test.
        """
        self.migrate(RESET_SHIM_BLOCKED=1)


class VcpuHotplugTest(ShimTest):
    """A vCPU that is being created or unplugged has no ring to look at"""

    ring = SMALL_RING

    def plug_many(self, limit: int) -> None:
        # Not together with calc-dirty-rate: QEMU 7.2's breaks when vCPUs come
        vm = self.source((FLOOD,), smp="1,maxcpus=64")
        vm.limit(limit)
        # From the lowest index up: QEMU 7.2's statistics have no room for gaps
        for i, slot in enumerate(vm.free_slots()):
            vm.plug_vcpu("cpu-%d" % i, slot)
            # At a different point of a ring and of a second each time
            time.sleep(0.02 + 0.0007 * i)
        self.assertEqual(len(vm.cmd("query-cpus-fast")), 64)
        self.check_memory(vm)

    def test_plugged_while_limited(self) -> None:
        self.plug_many(100)

    def test_plugged_while_rings_are_full(self) -> None:
        self.plug_many(NO_LIMIT)

    def test_unplugged_while_limited(self) -> None:
        """No kick, and no timer, finds a vCPU that is gone"""
        # Longer than a timer of the throttle runs
        self.change(RESET_SHIM_UNMAP=12000)
        for i in range(10):
            vm = self.source((SMALL_READER, SMALL_FLOOD))
            vm.limit(60)
            # Some of the times the vCPU is in the guest, with a timer running
            time.sleep(0.3 + 0.013 * i)
            vm.eject_vcpu(1, SOON)
            self.check_memory_of(vm, 0)
            vm.kill()
        self.check_changed()

    def check_memory_of(self, vm: StressVM, index: int) -> None:
        """As check_memory(), where other vCPUs have gone"""
        before = vm.guest.vcpu(index).passes
        wait_until("two more passes", EVENTUALLY, lambda:
                   vm.guest.vcpu(index).passes >= before + 2)
        self.assertEqual(vm.guest.vcpu(index).errors, 0)

    @staticmethod
    def region(vm: StressVM, vcpu: Vcpu) -> bytes:
        return os.pread(vm._ram, vcpu.region_size, vcpu.region_start)

    def lose_vcpu(self) -> None:
        src = self.source((SMALL_READER, FLOOD), ring=LARGE_RING,
                          smp="2,maxcpus=2")
        gone = src.guest.vcpu(1)
        # One that stays paused, so that nothing changes after it has come
        dst = self.destination(src, ring=LARGE_RING, smp="1,maxcpus=2",
                               args=["-S"])
        migration = Migration(src, dst, link=100, downtime=1).start()
        wait_until("second pass", EVENTUALLY, lambda:
                   migration.poll().ram("dirty-sync-count") >= 2)
        # Time to send pages that the vCPU then writes to once more
        time.sleep(0.2)
        src.eject_vcpu(1, SOON)
        migration.wait("completed", EVENTUALLY)
        self.assertTrue(self.region(src, gone) == self.region(dst, gone),
                        "the destination has old pages of the vCPU")
        src.kill()
        dst.kill()

    def test_unplugged_in_a_migration(self) -> None:
        """What a vCPU dirtied before it left gets to the destination"""
        # When the reaper, once a second, gets there first, nothing is shown.
        for _ in range(4):
            self.lose_vcpu()

    def test_unplugged_and_plugged(self) -> None:
        """
        KVM's side of a ring survives its vCPU, so it goes on where it was

        The guest uses the new vCPU after a reset only.
        """
        self.change(RESET_SHIM_REPLUG=1)
        vm = self.source((WRITER, FLOOD))
        for _ in range(3):
            vm.limit(NO_LIMIT)
            # Long enough for a ring that is neither at its begin nor full
            time.sleep(0.3)
            vm.eject_vcpu(1, SOON)
            slot, = vm.free_slots()
            vm.plug_vcpu("again", slot)
            vm.unlimit()
            vm.guest.expect_boot()
            vm.cmd("system_reset")
            vm.guest.wait_up(SOON)
            vm.guest.wait_filled(EVENTUALLY)
        vm.limit(20)
        dst = self.destination(vm)
        Migration(vm, dst, link=100, downtime=100).start().wait(
            "completed", EVENTUALLY)
        self.check_memory(dst)


class QuotaProbeTest(ShimTest):
    """A KVM that says of dirty quotas what QEMU does not expect"""

    def limited_without_quota(self, **options: int) -> str:
        """QEMU's log, after a limit has held without quotas"""
        vm = self.source((WRITER,), **options)
        full = self.rate(vm)
        vm.limit(1)
        self.wait_slow(vm, full)
        vm.unlimit()
        self.check_unlimited(vm, full)
        vm.shutdown()
        self.check_changed()
        return vm.get_log()

    def test_unknown_version(self) -> None:
        self.change(RESET_SHIM_QUOTA=2)
        log = self.limited_without_quota()
        self.assertEqual(log.count("interface version 2, not 1"), 1, log)

    def test_unknown_version_without_ring(self) -> None:
        self.change(RESET_SHIM_QUOTA=2)
        if not probe.has_statistics():
            self.skipTest("this KVM has no statistics to do without quotas")
        log = self.limited_without_quota(ring=0)
        self.assertEqual(log.count("interface version 2, not 1"), 1, log)

    def test_cannot_be_enabled(self) -> None:
        if probe.has_dirty_quota():
            self.skipTest("this KVM has dirty quotas, they can be enabled")
        self.change(RESET_SHIM_QUOTA=1)
        log = self.limited_without_quota()
        self.assertEqual(log.count("cannot be enabled"), 1, log)


class SlotsTest(ThrottleTest):
    """Memory comes and goes while rings are harvested without the BQL"""

    ring = SMALL_RING
    needs = ("adaptive-reaper", "dirty-quota")

    TIMES = 30

    def test_memory_plugged_and_unplugged(self) -> None:
        src = self.source((FLOOD, FLOOD), args=PLUGGABLE)
        src.set_capabilities("adaptive-reaper")
        for i in range(self.TIMES):
            # Logging starts and stops, by turns before and after the memory
            if i % 2:
                src.limit(NO_LIMIT)
            src.plug_memory()
            if not i % 2:
                src.limit(NO_LIMIT)
            # At a different point of a ring each time
            time.sleep(0.05 + 0.0007 * i)
            src.unplug_memory(SOON)
            src.unlimit()
        dst = self.destination(src, args=PLUGGABLE)
        Migration(src, dst, link=1000, downtime=300,
                  capabilities=["adaptive-reaper", "dirty-quota"]).start().wait(
                      "completed", EVENTUALLY)
        self.check_memory(dst)


if __name__ == "__main__":
    unittest.main()
