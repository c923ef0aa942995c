#
# Dirty throttle tests: a throttled migration loses no page
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from stressvm.stressguest import Role

from dirtythrottle.base import EVENTUALLY, ThrottleTest
from dirtythrottle.migration import Migration

# Together more than the link carries, whatever their number, and more than
# the downtime limit lets go at the end
ROLES = {
    1: (Role("writer", rate=50000, mb=64),),
    2: (Role("writer", rate=25000, mb=48), Role("writer", rate=25000, mb=48)),
    4: (Role("writer", rate=20000, mb=32), Role("writer", rate=20000, mb=32),
        Role("hot", rate=5000, pages=256), Role("reader", rate=5000, mb=32)),
}


# If nothing makes the migration converge: a link, and a downtime in which it
# carries all that can be dirty
FAST_LINK = 1000
LONG_DOWNTIME = 500


class MemoryTest(ThrottleTest):
    needs = ("dirty-limit", "dirty-quota", "adaptive-reaper")

    def migrate(self, vcpus: int, ring: int, *capabilities: str,
                link: int = 100, downtime: int = 50) -> None:
        src = self.source(ROLES[vcpus], ring=ring)
        dst = self.destination(src, ring=ring)
        migration = Migration(src, dst, link=link, downtime=downtime,
                              capabilities=capabilities,
                              parameters={"vcpu_dirty_limit": 10})
        migration.start().wait("completed", EVENTUALLY)
        self.check_memory(dst)

    def test_1_vcpu_ring_1024(self) -> None:
        self.migrate(1, 1024, "dirty-limit")

    def test_1_vcpu_ring_65536(self) -> None:
        self.migrate(1, 65536, "dirty-limit")

    def test_2_vcpus_ring_1024(self) -> None:
        self.migrate(2, 1024, "dirty-limit")

    def test_2_vcpus_ring_65536(self) -> None:
        self.migrate(2, 65536, "dirty-limit")

    def test_4_vcpus_ring_1024(self) -> None:
        self.migrate(4, 1024, "dirty-limit")

    def test_4_vcpus_ring_65536(self) -> None:
        self.migrate(4, 65536, "dirty-limit")

    def test_kicked_all_the_time(self) -> None:
        """Auto-converge sends vCPUs signals, whatever they are doing"""
        self.migrate(2, 1024, "auto-converge")

    def test_reaper_ring_1024(self) -> None:
        self.migrate(4, 1024, "adaptive-reaper", link=FAST_LINK,
                     downtime=LONG_DOWNTIME)

    def test_reaper_and_limit_ring_1024(self) -> None:
        self.migrate(4, 1024, "adaptive-reaper", "dirty-limit")

    def test_reaper_and_quota_ring_1024(self) -> None:
        self.migrate(4, 1024, "adaptive-reaper", "dirty-quota")

    def test_all_ring_1024(self) -> None:
        self.migrate(4, 1024, "adaptive-reaper", "dirty-limit", "dirty-quota",
                     "auto-converge")

    def test_reaper_ring_65536(self) -> None:
        self.migrate(4, 65536, "adaptive-reaper", link=FAST_LINK,
                     downtime=LONG_DOWNTIME)

    def test_reaper_and_limit_ring_65536(self) -> None:
        self.migrate(4, 65536, "adaptive-reaper", "dirty-limit")

    def test_reaper_and_quota_ring_65536(self) -> None:
        self.migrate(4, 65536, "adaptive-reaper", "dirty-quota")

    def test_all_ring_65536(self) -> None:
        self.migrate(4, 65536, "adaptive-reaper", "dirty-limit", "dirty-quota",
                     "auto-converge")

if __name__ == "__main__":
    unittest.main()
