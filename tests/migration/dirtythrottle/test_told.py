#
# Dirty throttle tests: what the benchmark makes of what QEMU has told
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from stressvm.timeline import Poll

from dirtythrottle.experiments import what_was_told

BEGIN = 100


def poll(after, syncs, **info):
    return Poll(BEGIN + after, {"ram": {"dirty-sync-count": syncs},
                                "dirty-throttle": info})


class ToldTest(unittest.TestCase):
    def test_nothing(self):
        self.assertEqual(what_was_told([], BEGIN), {})
        self.assertEqual(what_was_told(
            [Poll(BEGIN, {}), poll(1, 1, **{"deadline-missed": False,
                                            "reason": "devices"})],
            BEGIN), {})

    def test_first_pass(self):
        self.assertEqual(what_was_told(
            [poll(1, 1), poll(2, 2), poll(3, 3)], BEGIN),
            {"first pass s": 2})

    def test_deadline(self):
        said = [poll(after, 1, **info) for after, info in enumerate((
            {"deadline-missed": False},
            {"deadline-missed": True},
            {"deadline-missed": True, "earliest-time": 6000},
            {"deadline-missed": True, "earliest-time": 5500},
            {"deadline-missed": False}))]
        self.assertEqual(what_was_told(said, BEGIN), {
            "missed told after s": 1,
            "earliest told first s": 6,
            "earliest told last s": 5.5})

    def test_ceiling(self):
        self.assertEqual(what_was_told(
            [poll(4, 1), poll(5, 1, reason="ceiling"),
             poll(6, 1, reason="ceiling")], BEGIN),
            {"ceiling told after s": 5})


if __name__ == "__main__":
    unittest.main()
