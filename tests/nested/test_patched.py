#
# Nested tests: QEMU on a KVM with a dirty quota
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from migrate import ROLES, MigrateTest


class PatchedTest(MigrateTest):

    def test_limit_with_ring(self) -> None:
        self.check_limit(4096, "dirty-ring-and-dirty-quota")

    def test_limit_without_ring(self) -> None:
        self.check_limit(0, "dirty-quota")

    def test_quota_with_ring(self) -> None:
        self.check_quota(4096, "dirty-ring-and-dirty-quota")

    def test_quota_without_ring(self) -> None:
        self.check_quota(0, "dirty-quota")

    def test_command_without_ring(self) -> None:
        """No migration, so nobody but the quota knows who dirties pages"""
        vm = self.source(ROLES, ring=0)
        full = self.rate(vm)
        vm.limit(1, cpu_index=0)
        self.check_limits(vm, {0: 1})
        self.wait_slow(vm, full)
        vm.unlimit()
        self.check_unlimited(vm, full)
        self.check_memory(vm)


if __name__ == "__main__":
    unittest.main()
