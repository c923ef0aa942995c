#
# Nested tests: QEMU on Debian's own KVM, the control
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from qemu.qmp.qmp_client import ExecuteError

from migrate import ROLES, MigrateTest


class StockTest(MigrateTest):

    def test_limit_with_ring(self) -> None:
        self.check_limit(4096, "dirty-ring")

    def test_nothing_without_ring(self) -> None:
        vm = self.source(ROLES, ring=0)
        with self.assertRaisesRegex(ExecuteError, "dirty-ring-size"):
            vm.limit(1, cpu_index=0)


if __name__ == "__main__":
    unittest.main()
