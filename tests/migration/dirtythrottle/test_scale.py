#
# Dirty throttle tests: the benchmark on a machine that is slow
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import unittest

from stressvm.stressguest import PAGE_SIZE, Role
from stressvm.measure import MIB

from dirtythrottle.rows import ROWS
from dirtythrottle.testbed import Testbed

ROW = {row.name: row for row in ROWS}


class TestbedTest(unittest.TestCase):
    def test_memory_and_rates(self):
        scaled = Testbed(link_changes=((3, 30), (9, 100)), limit=20).scaled(10)
        self.assertEqual(scaled, Testbed(
            roles=(Role("writer", rate=5000, mb=20), Role("reader", mb=20)),
            link=10, link_changes=((3, 3), (9, 10)), limit=2, ram_mb=58))

    def test_regions_fit(self):
        for row in ROWS:
            small = row.scaled(10)
            if small is not None:
                regions = sum(role.mb or 0 for role in small.testbed.roles)
                self.assertLess(16 + regions, small.testbed.ram_mb, row.name)

    def test_no_limit_stays_none(self):
        hot, writer = Testbed(roles=(Role("hot", rate=0, pages=256),
                                     Role("writer", mb=200))).scaled(10).roles
        self.assertEqual(hot, Role("hot", rate=0, pages=26))
        self.assertEqual(writer, Role("writer", mb=20))

    def test_least_is_not_no_limit(self):
        role, = Testbed(roles=(Role("screen", rate=4, pages=4),)).scaled(
            10).roles
        self.assertEqual(role, Role("screen", rate=1, pages=1))

    def test_times_stay(self):
        roles = (Role("locker", rate=500, hold=30, writes=20, mb=100),
                 Role("latency", interval=500, work=20))
        self.assertEqual(Testbed(roles=roles).scaled(10).roles,
                         (Role("locker", rate=50, hold=30, writes=20, mb=10),
                          roles[1]))

    def test_limit_in_whole_mb(self):
        with self.assertRaises(ValueError):
            Testbed(limit=25).scaled(10)


class RowTest(unittest.TestCase):
    def test_as_many_seconds(self):
        """A writer is at all its pages again, and the link sends all, after
        as long as before"""
        def seconds(testbed):
            writer = testbed.roles[0]
            pages = writer.mb * MIB / PAGE_SIZE
            return (pages / writer.rate, writer.mb / testbed.link)

        for name in "link-ring4096", "link-two", "faults-slow-writer":
            row = ROW[name]
            self.assertEqual(seconds(row.scaled(10).testbed),
                             seconds(row.testbed))

    def test_rest_of_the_row_stays(self):
        row = ROW["deadline-15"]
        scaled = row.scaled(10)
        self.assertEqual((scaled.name, scaled.experiment, scaled.strategies),
                         (row.name, row.experiment, row.strategies))
        self.assertNotEqual(scaled.title, row.title)

    def test_rows_without_such_a_form(self):
        for name in ("limit25-two", "limit1", "holds-25-faults", "raise",
                     "cancel", "hostile", "reaper-hot-ring4096-vcpus1"):
            self.assertIsNone(ROW[name].scaled(10), name)
        for name in ("holds-10-ring4096", "forecast-link-hot", "ceiling-40",
                     "latency-500", "rogue", "interrupts", "locker"):
            self.assertIsNotNone(ROW[name].scaled(10), name)


if __name__ == "__main__":
    unittest.main()
