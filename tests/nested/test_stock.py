#
# Nested tests: QEMU on Debian's own KVM, the control
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from migrate import MigrateTest


class StockTest(MigrateTest):

    def test_limit_with_ring(self) -> None:
        self.check_limit(4096, "dirty-ring")

    def test_limit_without_ring(self) -> None:
        self.check_limit(0, "fault-statistics")

    def test_quota_without_ring(self) -> None:
        self.check_quota(0, "fault-statistics")


if __name__ == "__main__":
    unittest.main()
