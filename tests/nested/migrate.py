#
# Nested tests: one throttled migration, and what is true of each
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

from typing import Any

from stressvm.stressguest import Role
from stressvm.timeline import Poll
from stressvm.vm import StressVM

from dirtythrottle.base import ThrottleTest
from dirtythrottle.migration import Migration

# Under emulation, a guest dirties a few ten thousand pages/s at most. This
# writer is at all its pages again before the link has sent them. The reader
# is innocent.
ROLES = (Role("writer", rate=10000, mb=16), Role("reader", rate=4000, mb=8))
LINK = 10

# 16 MiB below the vCPUs' regions, and what QEMU needs above them. To find out
# that more memory is empty would take most of a migration.
RAM_MB = 64

# Two levels of emulation, and two cores at most that do it all
EVENTUALLY = 180


class MigrateTest(ThrottleTest):
    """Tests of migrations that converge only if the writer is slowed"""

    def source(self, *args: Any, **options: Any) -> StressVM:
        return super().source(*args, ram_mb=RAM_MB, **options)

    def destination(self, *args: Any, **options: Any) -> StressVM:
        return super().destination(*args, ram_mb=RAM_MB, **options)

    def migrate(self, ring: int, capability: str,
                **parameters: Any) -> list[dict[str, Any]]:
        """All that dirty-throttle said, once memory was found intact"""
        said: list[dict[str, Any]] = []

        def note(poll: Poll) -> None:
            info = poll.info.get("dirty-throttle")
            if info:
                said.append(info)

        src = self.source(ROLES, ring=ring)
        dst = self.destination(src, ring=ring)
        migration = Migration(src, dst, LINK, 300, [capability], parameters)
        end = migration.start().watch(EVENTUALLY, note)
        self.assertIsNotNone(end, "not within %d s: %s" %
                             (EVENTUALLY, migration.poll().info))
        self.assertEqual(end.status, "completed", end.info)
        self.check_memory(dst)
        return said

    def check(self, said: list[dict[str, Any]], mechanism: str) -> None:
        self.assertEqual({info["mechanism"] for info in said}, {mechanism})
        phases = [info["phase"] for info in said]
        self.assertEqual(phases[0], "first-pass")
        self.assertIn("throttling", phases)
        writer, reader = said[-1]["vcpus"]
        self.assertGreater(writer["penalties"], 0)
        self.assertEqual(reader["penalties"], 0)

    def check_limit(self, ring: int, mechanism: str) -> None:
        self.check(self.migrate(ring, "dirty-limit", vcpu_dirty_limit=2),
                   mechanism)

    def check_quota(self, ring: int, mechanism: str) -> None:
        self.check(self.migrate(ring, "dirty-quota"), mechanism)
