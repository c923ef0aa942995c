#
# Dirty throttle tests: page faults tell who dirties memory, without a ring
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import errno
import os
import re
import statistics
import time
import unittest

from typing import Any

from qemu.qmp import ExecuteError

from stressvm import probe
from stressvm.measure import mb
from stressvm.stressguest import Role
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle import test_quota
from dirtythrottle.base import (
    EVENTUALLY, FAST, READER, SMALL_READER, SOON, WRITER
)
from dirtythrottle.migration import Migration
from dirtythrottle.shimtest import ShimTest
from dirtythrottle.test_quota import QuotaTest

# What a writer does under a limit, by its own count: what a busy machine makes
# it miss within a look it gets back, but not what it misses at the end
TOLERANCE = 0.25
# Several epochs, as the limit is held by what the syncs between them find
HELD_SECONDS = 4

# The first epoch begins at once, and the next after a second
EPOCH_SECONDS = 1.2
LOGGED_ANEW = 5

# QEMU's warning
VERDICT = "page faults do not explain"


class FaultsTest(QuotaTest):
    """A test with a VM as most are: nobody gave it a dirty ring"""

    ring = 0

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not probe.has_statistics():
            raise unittest.SkipTest("this kernel's KVM has no statistics")
        if probe.has_dirty_quota():
            raise unittest.SkipTest("this KVM has dirty quotas, and they are"
                                    " what QEMU uses")

    def check_mechanism(self, said: list[dict[str, Any]]) -> None:
        self.assertEqual({info.get("mechanism") for info in said},
                         {"fault-statistics"})

    def check_limit_holds(self, vm: StressVM, mbps: int) -> None:
        # The first sync tells what faults are worth
        time.sleep(2)
        before = vm.guest.vcpu(0)
        time.sleep(HELD_SECONDS)
        rate = mb(vm.guest.vcpu(0).rate_since(before))
        self.assertLess(abs(rate - mbps), TOLERANCE * mbps,
                        "%.1f MB/s with a limit of %d" % (rate, mbps))

    @staticmethod
    def stats_fds(vm: StressVM) -> int:
        """Of how many vCPUs QEMU has the statistics open"""
        path = "/proc/%d/fd" % vm.get_pid()
        count = 0
        for name in os.listdir(path):
            try:
                count += "stats" in os.readlink(os.path.join(path, name))
            except FileNotFoundError:
                # It was open for a moment
                pass
        return count


class FaultsConvergeTest(FaultsTest):

    def test_only_the_writer_is_slowed(self) -> None:
        said = self.migrate((WRITER, READER))
        self.check_mechanism(said)
        self.check_throttled(said)
        writer, reader = said[-1]["vcpus"]
        self.assertGreater(writer["penalty-time"], 0)
        self.assertEqual(reader["penalties"], 0)

    def test_two_writers_two_readers(self) -> None:
        half = (Role("writer", rate=50000, mb=32), Role("reader", mb=32))
        said = self.migrate(half + half)
        self.check_throttled(said)
        for reader in said[-1]["vcpus"][1::2]:
            self.assertEqual(reader["penalties"], 0)

    def test_writer_that_the_link_bears(self) -> None:
        said = self.migrate((Role("writer", rate=5000, mb=64), READER))
        self.check_mechanism(said)
        self.assertNotIn("throttling", [info["phase"] for info in said])
        self.assertEqual(sum(vcpu["penalties"]
                             for vcpu in said[-1]["vcpus"]), 0)

    def test_capability_dirty_limit(self) -> None:
        src = self.source()
        migration = self.throttled(src)
        self.assertEqual(self.throttle(migration)["mechanism"],
                         "fault-statistics")
        migration.cancel()
        self.wait_limits(src, {})


class WatchTest(FaultsTest):

    def test_writer_is_noticed_soon(self) -> None:
        """
        One that had no faults, as its pages were dirty, until a sync

        A migration decides with each look, ten times a second. The first one
        may come before the writer does, and a busy machine makes it late.
        """
        src = self.source((WRITER,), ram_mb=128,
                          args=("-trace", "dirty_throttle_decide"))
        # Where it is between two rare looks is a matter of luck
        for _ in range(5):
            migration = self.start(src)
            wait_until("second pass", EVENTUALLY, lambda:
                       migration.poll().ram("dirty-sync-count") > 1)
            time.sleep(1)
            migration.cancel()
        src.kill()
        self.assertRegex(src.get_log(), "iteration 2: .*dirty rate [1-9]")
        unaware = [found.count("\n") for found in re.findall(
            r"(?:.*iteration 2: .*dirty rate 0 .*\n)+"
            r"(?=.*iteration 2: .*dirty rate [1-9])", src.get_log())]
        self.assertLess(max(unaware, default=0), 4, src.get_log())


class FaultsWaysOutTest(FaultsTest, test_quota.QuotaWaysOutTest):
    """Nobody is left slow"""


class LimitTest(FaultsTest):
    """Nothing migrates; the throttle itself syncs the log, once a second"""

    def test_holds(self) -> None:
        vm = self.source((WRITER, SMALL_READER))
        full = self.rate(vm)
        vm.limit(10)
        self.check_limits(vm, {0: 10, 1: 10})
        self.check_limit_holds(vm, 10)
        vm.limit(40, cpu_index=0)
        self.check_limit_holds(vm, 40)
        vm.unlimit()
        self.check_unlimited(vm, full)
        self.check_memory(vm)

    def test_measured(self) -> None:
        """calc-dirty-rate takes nothing away that the limit compares by"""
        vm = self.source((WRITER, SMALL_READER))
        vm.limit(10)
        time.sleep(2)
        before = vm.guest.vcpu(0)
        for _ in range(HELD_SECONDS):
            vm.cmd("calc-dirty-rate", calc_time=1, mode="dirty-bitmap")
            wait_until("a measurement", EVENTUALLY, lambda: vm.cmd(
                "query-dirty-rate")["status"] == "measured")
        rate = mb(vm.guest.vcpu(0).rate_since(before))
        self.assertLess(rate, 10 * (1 + TOLERANCE))

    def test_logged_anew(self) -> None:
        """KVM may take all pages for dirty when it begins to log them"""
        vm = self.source((SMALL_READER, SMALL_READER))
        for _ in range(LOGGED_ANEW):
            vm.limit(10)
            # The throttle's thread may not get to see that there was none
            vm.unlimit()
            vm.limit(10)
            time.sleep(EPOCH_SECONDS)
            vm.unlimit()
        self.assertNotIn(VERDICT, vm.read_log())

    def test_migration(self) -> None:
        """Pages that the throttle's syncs have found are sent all the same"""
        src = self.source()
        src.limit(20)
        dst = self.destination(src)
        Migration(src, dst).start().wait("completed", EVENTUALLY)
        self.check_limits(src, {0: 20, 1: 20})
        self.check_memory(dst)


class HotplugTest(FaultsTest):

    def test_plugged_while_limited(self) -> None:
        vm = self.source((WRITER,), smp="1,maxcpus=4")
        full = self.rate(vm)
        vm.limit(1)
        self.wait_slow(vm, full)
        for i, slot in enumerate(vm.free_slots()):
            vm.plug_vcpu("cpu-%d" % i, slot)
            time.sleep(0.03 * i)
        self.assertEqual(self.stats_fds(vm), 4)
        self.wait_slow(vm, full)
        vm.unlimit()
        self.check_unlimited(vm, full)

    def test_unplugged_in_a_migration(self) -> None:
        """The others go on, and no statistics stay open"""
        src = self.source((SMALL_READER, WRITER, WRITER))
        self.assertEqual(self.stats_fds(src), 3)
        dst = self.destination(src, smp="2,maxcpus=3")
        migration = self.start_lasting(src, dst=dst)
        self.wait_phase(migration, "throttling")
        src.eject_vcpu(2, SOON)
        self.assertEqual(self.stats_fds(src), 2)
        src.set_parameters(throttle_trigger_threshold=50, downtime_limit=100)
        src.set_link(100)
        migration.wait("completed", EVENTUALLY)
        self.assertEqual(self.stats_fds(src), 2)
        dst.guest.wait_up(SOON)
        self.assertEqual(self.stats_fds(dst), 2)

    def test_migrations_leave_nothing_open(self) -> None:
        src = self.source()
        fds = []
        for _ in range(3):
            migration = self.start_lasting(src)
            self.wait_phase(migration, "throttling")
            migration.cancel()
            fds.append(len(os.listdir("/proc/%d/fd" % src.get_pid())))
        self.assertEqual(self.stats_fds(src), 2)
        self.assertEqual(fds, fds[:1] * 3)


class ShimFaultsTest(FaultsTest, ShimTest):
    """A KVM that lacks statistics, or whose statistics lie"""

    shim_source = "faults-shim.c"

    def wait_alike(self, migration: Migration, reason: str) -> None:
        wait_until("all vCPUs alike", EVENTUALLY, lambda:
                   self.throttle(migration).get("mechanism") == "cpu-time")
        info = self.wait_phase(migration, "throttling")
        self.assertEqual(info["reason"], reason)
        self.assertFalse(info["fallback"])


class MissingTest(ShimFaultsTest):

    def test_withheld(self) -> None:
        self.change(FAULTS_SHIM_WITHHOLD=1)
        src = self.source()
        with self.assertRaisesRegex(ExecuteError, "dirty-ring-size"):
            src.limit(1)
        migration = self.start_lasting(src, capabilities=["auto-converge"])
        self.wait_alike(migration, "no-mechanism")
        self.assertEqual(self.stats_fds(src), 0)
        self.check_changed()

    def test_ioctl_fails(self) -> None:
        """KVM says that it has statistics, and does not give them"""
        for number in (errno.EINVAL, errno.ENOTTY):
            with self.subTest(errno.errorcode[number]):
                self.binary = type(self).binary
                self.change(FAULTS_SHIM_ERROR=number)
                src = self.source()
                dst = self.destination(src)
                migration = self.start_lasting(src, dst=dst,
                                               capabilities=["auto-converge"])
                self.wait_alike(migration, "unexplained")
                src.set_parameters(throttle_trigger_threshold=50,
                                   downtime_limit=100)
                src.set_link(100)
                migration.wait("completed", EVENTUALLY)
                self.check_changed()
                self.check_memory(dst)
                for vm in (dst, src):
                    vm.kill()
                log = src.get_log()
                self.assertEqual(log.count("does not tell the page faults"), 1,
                                 log)


class LieTest(ShimFaultsTest):

    def source(self, *roles: Any, **options: Any) -> StressVM:
        self.src = super().source(
            *roles, args=("-trace", "dirty_throttle_correct"), **options)
        return self.src

    def worth(self) -> float:
        """
        What a fault was found to be worth, in pages, when the source is gone

        Syncs that found next to nothing do not tell.
        """
        self.src.kill()
        found = re.findall(r"found (\d+) pages; worth (\d+) / 16384",
                           self.src.get_log())
        return statistics.median(int(worth) / 16384 for pages, worth in found
                                 if int(pages) > 1024)

    def test_half(self) -> None:
        """Only every other fault is told: each is worth two pages then"""
        self.change(FAULTS_SHIM_PERCENT=50)
        said = self.migrate((WRITER, READER))
        self.check_changed()
        self.check_mechanism(said)
        self.check_throttled(said)
        self.assertEqual(said[-1]["vcpus"][1]["penalties"], 0)
        # A busy machine makes it differ from 2
        self.assertLess(abs(self.worth() - 2), 0.5)

    def test_limit_with_half(self) -> None:
        self.change(FAULTS_SHIM_PERCENT=50)
        vm = self.source()
        full = self.rate(vm)
        vm.limit(10)
        self.check_limit_holds(vm, 10)
        self.check_changed()
        vm.unlimit()
        self.check_unlimited(vm, full)

    def test_quiet_vcpu_is_looked_at(self) -> None:
        """
        One without faults may be a writer whose pages are all dirty

        When a sync makes them clean, it dirties them at its full speed until
        the next look.
        """
        self.change(FAULTS_SHIM_PERCENT=50)
        vm = self.source((READER,))
        vm.limit(10)
        # What was dirtied before is charged by the first looks
        time.sleep(1)
        before = os.path.getsize(self.log)
        time.sleep(2)
        # A look is due every 10 ms; a busy machine makes some late
        self.assertGreater(os.path.getsize(self.log) - before, 2 * 30)

    def test_reads(self) -> None:
        """
        Faults that dirty nothing, of both vCPUs alike

        They are 47 MB/s for each, twice a vCPU's own share of the budget. Syncs
        show that no fault is a whole page, and the reader pays less than the
        writer.
        """
        self.change(FAULTS_SHIM_READS=6000)
        said = self.migrate((WRITER, READER))
        self.check_changed()
        self.assertIn("throttling", [info["phase"] for info in said])
        writer, reader = said[-1]["vcpus"]
        self.assertLess(reader["penalty-time"], writer["penalty-time"])
        self.assertLess(self.worth(), 0.9)

    def stop_counting(self) -> None:
        with open(self.log + ".stop", "x"):
            pass

    def test_stops(self) -> None:
        self.change(FAULTS_SHIM_STOPS=1)
        src = self.source()
        full = self.rate(src)
        migration = self.start_lasting(src)
        self.wait_phase(migration, "throttling")
        self.stop_counting()
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "unexplained")
        self.assertFalse(info["fallback"])
        self.assertNotIn("mechanism", info)
        self.wait_fast(src, full)
        self.check_changed()

    def test_stops_and_auto_converge(self) -> None:
        self.change(FAULTS_SHIM_STOPS=1)
        src = self.source()
        full = self.rate(src)
        migration = self.start_lasting(src, capabilities=["auto-converge"])
        self.wait_phase(migration, "throttling")
        self.stop_counting()
        self.wait_alike(migration, "unexplained")
        self.wait_slow(src, full)
        migration.cancel()
        self.wait_fast(src, full)
        # From now on faults count again, and time does not
        os.remove(self.log + ".stop")
        src.limit(1)
        self.wait_slow(src, full)
        wait_until("who writes nothing is told so", SOON, lambda:
                   src.limits()[1]["current-rate"] == 0)

    def test_stops_under_a_limit(self) -> None:
        """Nobody is slowed by a limit that nobody can tell to be kept"""
        self.change(FAULTS_SHIM_STOPS=1)
        src = self.source()
        full = self.rate(src)
        src.limit(1)
        self.wait_slow(src, full)
        self.stop_counting()
        # Faults that are not told make it fast, and then the verdict does
        wait_until("a verdict", EVENTUALLY, lambda: VERDICT in src.read_log())
        self.wait_fast(src, full)
        # A migration goes by that to its end, which is far away
        migration = self.start(src, link=1)
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "no-mechanism")
        # Limits may be tried again
        os.remove(self.log + ".stop")
        src.unlimit()
        src.limit(1)
        self.wait_slow(src, full)
        self.assertEqual(self.throttle(migration)["reason"], "no-mechanism")
        self.assertNotIn("mechanism", self.throttle(migration))
        migration.cancel()
        self.assertEqual(src.read_log().count(VERDICT), 1)


if __name__ == "__main__":
    unittest.main()
