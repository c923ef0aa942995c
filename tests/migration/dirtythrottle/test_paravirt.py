#
# Dirty throttle tests: what KVM itself writes is nobody's to pay for
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from typing import Any

from stressvm import probe
from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import StressVM

from dirtythrottle.base import EVENTUALLY, READER, WRITER, ThrottleTest
from dirtythrottle.migration import Migration

# It writes three pages again and again: its counters, its stack, and what it
# shares with KVM. KVM makes several entries in the ring for each wakeup.
SLEEPER = Role("wakeups", rate=5000)

# The smallest there is: 256 pages in a second
LIMIT = 1


class ParavirtTest(ThrottleTest):
    needs = ("dirty-limit", "adaptive-reaper")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not probe.has_paravirt():
            raise unittest.SkipTest(
                "this KVM has no steal time, or no paravirtual end of "
                "interrupt")

    def check_not_throttled(self, src: StressVM, capability: str,
                            **parameters: Any) -> None:
        """
        vCPU 0 wakes up here and there, and vCPU 1 alone pays for what it does
        """
        dst = self.destination(src, pv=True)
        migration = Migration(src, dst, link=50, downtime=100,
                              capabilities=[capability],
                              parameters=parameters).start()
        penalties = []

        def note(poll: Poll) -> None:
            if poll.status == "active":
                penalties.append([
                    vcpu["penalties"] for vcpu in
                    poll.info["dirty-throttle"]["vcpus"]])

        last = migration.watch(EVENTUALLY, note)
        self.assertEqual(last and last.status, "completed")
        self.assertEqual(penalties[-1][0], 0)
        self.assertGreater(penalties[-1][1], 0)
        self.check_memory(dst)
        self.assertGreater(self.rate(dst, 0), 0)

    def test_limit_by_command(self) -> None:
        src = self.source((SLEEPER, WRITER, READER), pv=True)
        full = self.rate(src, 1)
        src.limit(LIMIT)
        self.wait_slow(src, full, 1)
        # for query-migrate to tell of penalties
        self.check_not_throttled(src, "adaptive-reaper")

    def test_limit_by_capability(self) -> None:
        src = self.source((SLEEPER, WRITER, READER), pv=True)
        self.check_not_throttled(src, "dirty-limit", vcpu_dirty_limit=LIMIT)


if __name__ == "__main__":
    unittest.main()
