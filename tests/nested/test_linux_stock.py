#
# Nested tests: a Linux guest on Debian's own KVM
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

import linuxtest


class LinuxStockTest(linuxtest.LinuxTest):

    ring = 4096
    trips = (linuxtest.Trip(1024), linuxtest.Trip(0, limit=6),
             linuxtest.Trip(0))

    def test_quota_with_ring(self) -> None:
        self.check_trip(self.trips[0], "dirty-ring")

    def test_limits_by_command(self) -> None:
        self.check_trip(self.trips[1], "dirty-ring")

    def test_quota_without_ring(self) -> None:
        self.check_trip(self.trips[2], "fault-statistics")


if __name__ == "__main__":
    unittest.main()
