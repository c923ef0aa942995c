#
# Nested tests: a Linux guest on a KVM with a dirty quota
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

import linuxtest


class LinuxPatchedTest(linuxtest.LinuxTest):

    ring = 0
    trips = (linuxtest.Trip(4096), linuxtest.Trip(0))

    def test_quota_without_ring(self) -> None:
        self.check_trip(self.trips[0], "dirty-quota")

    def test_quota_with_ring(self) -> None:
        self.check_trip(self.trips[1], "dirty-ring-and-dirty-quota")


if __name__ == "__main__":
    unittest.main()
