#
# Dirty throttle tests: what KVM itself writes is nobody's to pay for
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import time
import unittest

from typing import Any

from guestperf.stressguest import Role

from dirtythrottle import probe
from dirtythrottle.base import (
    EVENTUALLY, LASTING_LINK, READER, SOON, WRITER, ThrottleTest
)
from dirtythrottle.migration import Migration
from dirtythrottle.vm import StressVM

# It writes three pages again and again: its counters, its stack, and what it
# shares with KVM. KVM makes several entries in the ring for each wakeup.
SLEEPER = Role("wakeups", rate=5000)

# The smallest there is: 256 pages in a second
LIMIT = 1

# Several of the throttle's own epochs
WATCH_SECONDS = 4


class ParavirtTest(ThrottleTest):
    needs = ("dirty-limit", "dirty-quota", "adaptive-reaper")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not probe.has_paravirt():
            raise unittest.SkipTest(
                "this KVM has no steal time, or no paravirtual end of "
                "interrupt")

    def check_wakes_up(self, vm: StressVM, vcpu: int) -> None:
        self.assertGreater(self.rate(vm, vcpu), 0)

    def test_limit_by_command(self) -> None:
        src = self.source((SLEEPER, WRITER), pv=True)
        full = [self.rate(src, i) for i in range(2)]
        src.limit(LIMIT)
        self.wait_slow(src, full[1], 1)
        time.sleep(WATCH_SECONDS)
        self.wait_fast(src, full[0], 0)

        # only a migration tells of penalties
        migration = Migration(src, link=LASTING_LINK,
                              capabilities=["adaptive-reaper"]).start()
        migration.wait("active", SOON)
        vcpus = migration.poll().info["dirty-throttle"]["vcpus"]
        self.assertEqual(vcpus[0]["penalties"], 0)
        self.assertGreater(vcpus[1]["penalties"], 0)

    def test_migration(self) -> None:
        """Neither a limit nor a quota; and it wakes up at the destination"""
        src = self.source((SLEEPER, WRITER, READER), pv=True)
        dst = self.destination(src, pv=True)
        migration = Migration(src, dst, link=50, downtime=100,
                              capabilities=["dirty-limit", "dirty-quota"],
                              parameters={"vcpu_dirty_limit": LIMIT}).start()
        penalties = []

        def note(progress: Any) -> None:
            if progress.status == "active":
                penalties.append([
                    vcpu["penalties"] for vcpu in
                    progress.info["dirty-throttle"]["vcpus"]])

        last = migration.watch(EVENTUALLY, note)
        self.assertEqual(last and last.status, "completed")
        self.assertEqual(penalties[-1][0], 0)
        self.assertGreater(penalties[-1][1], 0)
        self.check_memory(dst)
        self.check_wakes_up(dst, 0)


if __name__ == "__main__":
    unittest.main()
