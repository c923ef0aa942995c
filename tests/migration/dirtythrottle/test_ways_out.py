#
# Dirty throttle tests: however a migration ends, its limit ends with it
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from qemu.qmp import ExecuteError

from stressvm import measure
from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import EVENTUALLY, SOON, ThrottleTest
from dirtythrottle.migration import LASTING_LINK, Migration

# Fast enough for the throttled migration to complete
FINAL_LINK = 100


# Bytes/s for what the destination does not ask for: as few as QEMU takes, so
# that it lasts
SLOW_POSTCOPY = 10


class WaysOutTest(ThrottleTest):
    needs = ("dirty-limit",)

    def test_completed(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst)
        src.set_link(FINAL_LINK)
        migration.wait("completed", EVENTUALLY)
        self.check_limits(src, {})
        self.check_memory(dst)
        self.check_unlimited(dst, full)

    def test_completed_then_continued_on_the_source(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst)
        src.set_link(FINAL_LINK)
        migration.wait("completed", EVENTUALLY)
        dst.kill()
        src.cmd("cont")
        self.check_unlimited(src, full)
        self.check_memory(src)

    def test_failed(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst)
        dst.kill()
        migration.wait("failed", SOON)
        self.wait_limits(src, {})
        self.check_unlimited(src, full)

    def test_cancelled(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        self.throttled(src, dst).cancel()
        self.check_unlimited(src, full)

    def test_postcopy(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        try:
            dst.set_capabilities("postcopy-ram")
        except ExecuteError as error:
            self.skipTest("no postcopy here: %s" % error)
        migration = self.throttled(src, dst, ["postcopy-ram",
                                              "adaptive-reaper"])
        src.set_parameters(max_postcopy_bandwidth=SLOW_POSTCOPY)
        src.cmd("migrate-start-postcopy")
        poll = migration.wait("postcopy-active", SOON)
        # The guest runs elsewhere, so there is nothing to tell of it
        self.assertNotIn("dirty-throttle", poll.info)
        self.assertNotIn("dirty-limit-throttle-time-per-round", poll.info)
        self.check_limits(src, {})
        src.set_parameters(max_postcopy_bandwidth=0)
        migration.wait("completed", EVENTUALLY)
        self.check_memory(dst)
        self.check_unlimited(dst, full)

    def test_postcopy_paused_and_recovered(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        try:
            dst.set_capabilities("postcopy-ram")
        except ExecuteError as error:
            self.skipTest("no postcopy here: %s" % error)
        migration = self.throttled(src, dst, ["postcopy-ram"])
        src.set_parameters(max_postcopy_bandwidth=SLOW_POSTCOPY)
        src.cmd("migrate-start-postcopy")
        migration.wait("postcopy-active", SOON)
        self.wait_status(dst, "postcopy-active")
        src.cmd("migrate-pause")
        migration.wait("postcopy-paused", SOON)
        self.wait_status(dst, "postcopy-paused")
        self.assertNotIn("dirty-throttle", migration.poll().info)
        uri = "unix:" + dst.socket_path() + "-recover"
        dst.cmd("migrate-recover", uri=uri)
        src.cmd("migrate", uri=uri, resume=True)
        src.set_parameters(max_postcopy_bandwidth=0)

        def told_nothing(poll: Poll) -> None:
            self.assertNotIn("dirty-throttle", poll.info)

        end = migration.watch(EVENTUALLY, told_nothing)
        self.assertEqual(end and end.status, "completed")
        self.check_limits(src, {})
        self.check_memory(dst)
        self.check_unlimited(dst, full)

    def test_cancelled_before_switchover(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst, ["pause-before-switchover"])
        src.set_link(FINAL_LINK)
        migration.wait("pre-switchover", EVENTUALLY)
        migration.cancel()
        self.check_unlimited(src, full)

    def test_failed_and_begun_again(self) -> None:
        """A migration that begins as soon as it can, after one that failed"""
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst)
        dst.kill()
        migration.wait("failed", SOON)
        again = Migration(src, link=LASTING_LINK, downtime=1)
        wait_until("begun", SOON, lambda: self.begins(again))
        poll = again.wait("active", SOON)
        self.assertEqual(poll.info["dirty-throttle"]["phase"],
                         "first-pass")
        self.check_unlimited(src, full)
        again.cancel()
        self.check_unlimited(src, full)

    @staticmethod
    def wait_status(vm: StressVM, status: str) -> None:
        wait_until(status, SOON, lambda: vm.migration().get("status") ==
                   status)

    @staticmethod
    def begins(migration: Migration) -> bool:
        try:
            migration.start()
        except ExecuteError:
            # The first one has not been cleaned up yet
            return False
        return True

    def test_background_snapshot(self) -> None:
        """It waits for no writer, so it neither throttles nor refuses to"""
        src = self.source()
        full = self.rate(src)
        src.set_capabilities("dirty-limit")
        try:
            src.set_capabilities("background-snapshot")
        except ExecuteError as error:
            self.assertNotIn("dirty-limit", str(error))
            self.skipTest("no background snapshots here: %s" % error)
        migration = Migration(src).start()

        def told_nothing(poll: Poll) -> None:
            self.assertNotIn("dirty-throttle", poll.info)

        end = migration.watch(EVENTUALLY, told_nothing)
        self.assertEqual(end and end.status, "completed")
        self.check_unlimited(src, full)

    def test_stop_and_cont(self) -> None:
        src = self.source()
        full = self.rate(src)
        migration = self.throttled(src)
        src.cmd("stop")
        self.assertEqual(self.rate(src), 0)
        src.cmd("cont")
        self.wait_slow(src, full)
        migration.cancel()
        self.check_unlimited(src, full)

    def test_completed_while_stopped(self) -> None:
        src = self.source()
        full = self.rate(src)
        dst = self.destination(src)
        migration = self.throttled(src, dst)
        src.cmd("stop")
        src.set_link(FINAL_LINK)
        migration.wait("completed", EVENTUALLY)
        self.check_limits(src, {})
        dst.cmd("cont")
        self.check_memory(dst)
        self.check_unlimited(dst, full)

    def test_cancelled_while_stopped(self) -> None:
        src = self.source()
        full = self.rate(src)
        migration = self.throttled(src)
        src.cmd("stop")
        migration.cancel()
        src.cmd("cont")
        self.check_unlimited(src, full)

    def test_capability_off_afterwards(self) -> None:
        src = self.source()
        full = self.rate(src)
        self.throttled(src).cancel()
        src.set_capabilities("dirty-limit", state=False)
        self.check_unlimited(src, full)

    def test_quit(self) -> None:
        src = self.source()
        self.throttled(src)
        src.cmd("quit")
        wait_until("quit", SOON, lambda: not src.is_running())
        self.assertEqual(src.exitcode(), 0)


class LimitedBeforeTest(ThrottleTest):
    """What the operator had limited by command is so again afterwards"""

    needs = ("dirty-limit",)

    # Slow enough to tell from full speed on a busy machine, and still more
    # than LINK carries, so that the migration has a reason to throttle further
    BEFORE = 20
    LINK = 12
    SMALL_WRITER = Role("writer", rate=50000, mb=32)

    def limited(self) -> tuple[StressVM, float]:
        """A VM limited by command, and how fast vCPU 0 was before"""
        src = self.source((self.SMALL_WRITER,))
        full = self.rate(src)
        src.limit(self.BEFORE)
        self.wait_slow(src, full)
        return src, full

    def check_as_before(self, src: StressVM, full: float) -> None:
        """No slower than the command wants it, and no faster"""
        self.wait_limits(src, {0: self.BEFORE})
        # A quarter of it is far more than the migration had left
        wait_until("at the speed from before", SOON,
                   lambda: measure.mb(self.rate(src)) > self.BEFORE / 4)
        self.wait_slow(src, full)

    def test_cancelled(self) -> None:
        src, full = self.limited()
        self.throttled(src, link=self.LINK).cancel()
        self.check_as_before(src, full)
        src.unlimit()
        self.check_unlimited(src, full)

    def test_failed(self) -> None:
        src, full = self.limited()
        dst = self.destination(src)
        migration = self.throttled(src, dst, link=self.LINK)
        dst.kill()
        migration.wait("failed", SOON)
        self.check_as_before(src, full)

    def test_completed(self) -> None:
        src, full = self.limited()
        dst = self.destination(src)
        migration = self.throttled(src, dst, link=self.LINK)
        src.set_link(FINAL_LINK)
        migration.wait("completed", EVENTUALLY)
        self.check_memory(dst)
        self.check_unlimited(dst, full)
        dst.kill()
        src.cmd("cont")
        self.check_as_before(src, full)


if __name__ == "__main__":
    unittest.main()
