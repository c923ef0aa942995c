#
# Dirty throttle tests: migrations begun and cancelled in a row
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from stressvm.timeline import ENDED
from stressvm.waiting import wait_until

from dirtythrottle.base import EVENTUALLY, ThrottleTest
from dirtythrottle.migration import Migration

TIMES = 50


class RestartsTest(ThrottleTest):
    needs = ("dirty-limit", "adaptive-reaper")

    @staticmethod
    def watch_until_throttled(migration: Migration) -> None:
        """Or until it is over; a busy machine may look too late"""
        def enough() -> bool:
            poll = migration.poll()
            return poll.throttles or poll.status in ENDED

        wait_until("throttled", EVENTUALLY, enough)

    def cancel_50_times(self, ring: int, *capabilities: str) -> None:
        src = self.source(ring=ring)
        full = self.rate(src)
        parameters = {"vcpu_dirty_limit": 1}
        throttled = 0
        for i in range(TIMES):
            migration = Migration(src, None, 100, 1,
                                  ["dirty-limit", *capabilities],
                                  parameters).start()
            # From the first moments of the first pass to a throttled guest, and
            # once some time later
            if i % 10:
                migration.watch(0.05 * (i % 5))
            elif i:
                self.watch_until_throttled(migration)
            else:
                migration.watch(3)
            throttled += any(p.throttles for p in migration.timeline.polls)
            migration.cancel()
            self.check_limits(src, {})
            if migration.poll().status == "completed":
                # Before it was cancelled, and into nowhere: the source goes on
                src.cmd("cont")
        self.assertGreater(throttled, 0)
        self.check_unlimited(src, full)
        self.check_memory(src)

        dst = self.destination(src, ring=ring)
        Migration(src, dst, 100, 50, ["dirty-limit", *capabilities],
                  parameters).start().wait("completed", EVENTUALLY)
        self.check_memory(dst)

    def test_cancelled_50_times(self) -> None:
        self.cancel_50_times(self.ring)

    def test_cancelled_50_times_with_a_busy_reaper(self) -> None:
        """Rings that are full, and harvested, a hundred times a second"""
        self.cancel_50_times(1024, "adaptive-reaper")


if __name__ == "__main__":
    unittest.main()
