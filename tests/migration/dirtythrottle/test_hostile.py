#
# Dirty throttle tests: a guest that does its worst holds nobody up
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from typing import ClassVar, Sequence

from dirtythrottle.base import ThrottleTest
from dirtythrottle.hostile import TESTBED, HeldUp, Hostile, held_up_ms
from dirtythrottle.strategy import DIRTY_LIMIT, DIRTY_QUOTA, NONE, Strategy

# A penalty is 100 ms long at most, and a kick ends it. Half of that is more
# than what is left of the longest one that is kicked, and less than what some
# of many have left that are not.
MOST_MS = 50


class HostileTest(ThrottleTest):
    needs = ("dirty-limit", "dirty-quota")

    # Without a throttle: migrate_cancel, for one, waits for a migration thread
    # that has sent what it may in 100 ms
    control: ClassVar[dict[str, Sequence[HeldUp]]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.control = Hostile().measure(cls.binary, TESTBED, NONE)

    def held_up(self, strategy: Strategy) -> None:
        measured = Hostile().measure(self.binary, TESTBED, strategy)
        for name, times in measured.items():
            self.assertLess(
                held_up_ms(name, times) -
                held_up_ms(name, self.control[name]),
                MOST_MS, (name, times, self.control[name]))

    def test_limit(self) -> None:
        self.held_up(DIRTY_LIMIT)

    def test_quota(self) -> None:
        self.held_up(DIRTY_QUOTA)


if __name__ == "__main__":
    unittest.main()
