#
# Dirty throttle tests: no vCPU sleeps for more than max-cpu-throttle allows
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import time
import unittest

from typing import Sequence

from stressvm.stressguest import Role
from stressvm.waiting import wait_until

from dirtythrottle import test_quota
from dirtythrottle.base import EVENTUALLY, SMALL_READER
from dirtythrottle.migration import Migration

# Its set takes several seconds to be dirtied all over
LASTING_WRITER = Role("writer", rate=50000, mb=200)


class CeilingTest(test_quota.QuotaTest):

    # As long as it takes until the next penalty, and looks that come late
    SLACK_MS = 80

    def start_throttled(self, roles: Sequence[Role],
                        *capabilities: str) -> Migration:
        src = self.source(roles)
        migration = self.start_lasting(src, link=50,
                                       capabilities=capabilities,
                                       max_cpu_throttle=40)
        self.wait_phase(migration, "throttling")
        src.set_link(2)
        return migration

    def slept_ms(self, migration: Migration) -> list[int]:
        return [vcpu["penalty-time"]
                for vcpu in self.throttle(migration)["vcpus"]]

    def test_no_second_beyond(self) -> None:
        migration = self.start_throttled((LASTING_WRITER, LASTING_WRITER))
        most = 0.0
        for _ in range(8):
            begin, before = time.monotonic(), self.slept_ms(migration)
            time.sleep(1)
            after, end = self.slept_ms(migration), time.monotonic()
            for old, new in zip(before, after):
                # A busy machine makes the second longer
                self.assertLessEqual(new - old, 0.4 * 1000 * (end - begin) +
                                     self.SLACK_MS)
                most = max(most, (new - old) / (end - begin))
        # That is what they are slowed to, not less
        self.assertGreater(most, 200)

    def test_not_enough(self) -> None:
        """It is said, and auto-converge does not go beyond it"""
        migration = self.start_throttled((LASTING_WRITER,) * 2,
                                         "auto-converge")
        info = self.wait_phase(migration, "cannot-help")
        self.assertEqual(info["reason"], "ceiling")
        for _ in range(10):
            poll = migration.poll()
            self.assertEqual(poll.info["dirty-throttle"]["reason"], "ceiling")
            self.assertFalse(poll.info["dirty-throttle"]["fallback"])
            self.assertNotIn("cpu-throttle-percentage", poll.info)
            time.sleep(0.1)

    def test_raised(self) -> None:
        """Followed at once, by a vCPU that is far in debt as well"""
        migration = self.start_throttled((LASTING_WRITER, SMALL_READER))
        # Before the writer is through with its set, which takes two seconds
        time.sleep(0.3)
        migration.src.set_parameters(max_cpu_throttle=99)
        wait_until("slower than that", EVENTUALLY, lambda: self.throttle(
            migration)["vcpus"][0]["throttled"] > 60)

if __name__ == "__main__":
    unittest.main()
