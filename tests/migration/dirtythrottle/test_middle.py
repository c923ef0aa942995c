#
# Dirty throttle tests: syncs in the middle of long iterations
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from typing import Sequence

from stressvm.measure import MIB
from stressvm.stressguest import Role
from stressvm.timeline import Poll

from dirtythrottle import test_faults, test_quota
from dirtythrottle.base import EVENTUALLY, SMALL_READER


class InTheMiddleTest(test_quota.QuotaTest):

    def throttled(self, roles: Sequence[Role]) -> list[Poll]:
        """What was told while it throttled, with memory intact at the end"""
        polls = []
        src = self.source(roles, ring=self.ring)
        dst = self.destination(src, ring=self.ring)
        migration = self.start(src, dst, link=self.LINK, downtime=300)
        end = migration.watch(EVENTUALLY, polls.append)
        self.assertIsNotNone(end, "not within %d s" % EVENTUALLY)
        self.assertEqual(end.status, "completed", end.info)
        self.check_memory(dst)
        found = [poll for poll in polls
                 if poll.info.get("dirty-throttle", {}).get("phase") ==
                 "throttling"]
        self.assertTrue(found)
        return found

    def test_first_pass_in_vain(self) -> None:
        """All memory is dirty already: it is cut, and vCPUs are throttled"""
        throttled = self.throttled((Role("writer", mb=200),) * 2)
        # Not so much was sent by then as there is, nor in any iteration
        self.assertLess(throttled[0].ram("transferred"), 300 * MIB)
        self.assertGreater(throttled[0].ram("remaining"), 200 * MIB)
        self.assertGreater(throttled[-1].ram("dirty-sync-count"), 4)

    def test_first_pass_of_some_use(self) -> None:
        """Less than that is dirty: all memory is sent before"""
        throttled = self.throttled((Role("writer", mb=200), SMALL_READER))
        self.assertGreater(throttled[0].ram("transferred"), 200 * MIB)


class InTheMiddleFaultsTest(test_faults.FaultsTest, InTheMiddleTest):

    def test_first_pass_in_vain(self) -> None:
        """By estimates nothing is cut"""
        throttled = self.throttled((Role("writer", mb=200),) * 2)
        self.assertGreater(throttled[0].ram("transferred"), 300 * MIB)


if __name__ == "__main__":
    unittest.main()
