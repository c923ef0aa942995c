#
# VMs with the stress guest: the figures are what they say
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import math
import unittest

from stressvm import measure, table
from stressvm.timeline import Poll, Sample


def steady(rates, seconds=10, interval=0.1):
    """Samples of one vCPU that does rates[s] operations in second s"""
    samples = []
    ops = 0.0
    steps = round(1 / interval)
    for step in range(seconds * steps + 1):
        samples.append(Sample(step / steps, (round(ops),)))
        ops += rates[min(step // steps, len(rates) - 1)] / steps
    return samples


class RateTest(unittest.TestCase):
    def test_rate(self):
        self.assertAlmostEqual(measure.rate(steady([100]), 0), 100)

    def test_no_time(self):
        self.assertIsNone(measure.rate([], 0))
        self.assertIsNone(measure.rate([Sample(1, (5,))], 0))
        self.assertIsNone(measure.rate([Sample(1, (5,)), Sample(1, (9,))], 0))

    def test_between(self):
        samples = measure.between(steady([10]), 2, 3)
        self.assertEqual((samples[0].time, samples[-1].time), (2, 3))

    def test_each_vcpu_by_itself(self):
        samples = [Sample(0, (0, 0)), Sample(2, (10, 30))]
        self.assertEqual(measure.rate(samples, 1), 15)


class WindowTest(unittest.TestCase):
    def test_lowest_and_highest(self):
        samples = steady([100, 100, 0, 0, 100, 300, 100])
        self.assertAlmostEqual(measure.lowest(samples, 0, 1), 0)
        self.assertAlmostEqual(measure.highest(samples, 0, 1), 300)
        self.assertAlmostEqual(measure.lowest(samples, 0, 4), 50)

    def test_longer_than_the_samples(self):
        self.assertIsNone(measure.lowest(steady([100]), 0, 11))

    def test_never_shorter_than_asked(self):
        # A gap between samples makes the window longer, never shorter
        samples = [Sample(t, (int(t * 10),)) for t in (0, 0.4, 0.9, 2, 2.1)]
        for start, found in measure.windows(samples, 0, 1):
            self.assertIn(start, (0, 0.4, 0.9))
            self.assertAlmostEqual(found, 10)

    def test_time_until(self):
        samples = steady([10, 10, 10, 100])
        self.assertAlmostEqual(
            measure.time_until(samples, 0, 95, 0.5, since=1), 2)
        self.assertIsNone(measure.time_until(samples, 0, 200, 0.5, since=1))

    def test_a_burst_is_not_a_rate(self):
        samples = steady([10, 10, 100, 10])
        self.assertIsNone(measure.time_until(samples, 0, 90, 2, since=0))


class MomentTest(unittest.TestCase):
    def test_last_operation(self):
        self.assertEqual(measure.last_operation(steady([100, 100, 0])), 2)

    def test_last_operation_of_any_vcpu(self):
        samples = [Sample(0, (0, 0)), Sample(1, (5, 5)), Sample(2, (5, 9)),
                   Sample(3, (5, 9))]
        self.assertEqual(measure.last_operation(samples), 2)

    def test_throttled_since(self):
        polls = [Poll(1, {}),
                 Poll(2, {"dirty-limit-throttle-time-per-round": 0}),
                 Poll(3, {"dirty-limit-throttle-time-per-round": 7}),
                 Poll(4, {"cpu-throttle-percentage": 20})]
        self.assertEqual(measure.throttled_since(polls), 3)
        self.assertEqual(measure.throttled_since(polls[3:]), 4)
        self.assertIsNone(measure.throttled_since(polls[:2]))


class FigureTest(unittest.TestCase):
    def test_share(self):
        self.assertEqual(measure.share(1, 4), 25)
        self.assertIsNone(measure.share(None, 4))
        self.assertIsNone(measure.share(1, 0))

    def test_per(self):
        self.assertEqual(measure.per(6, 4), 1.5)
        self.assertIsNone(measure.per(0, 0))

    def test_mb(self):
        self.assertEqual(measure.mb(256), 1)
        self.assertIsNone(measure.mb(None))

    def test_spread(self):
        self.assertEqual(measure.spread([3, 1, 2]), measure.Spread(2, 1, 3))
        self.assertEqual(measure.spread([None, 2]), measure.Spread(2, 2, 2))
        self.assertIsNone(measure.spread([None]))

    def test_never(self):
        # Never in most of the runs is never; in a few it ends the range
        never = math.inf
        self.assertEqual(measure.spread([never, 1, never]).median, never)
        self.assertEqual(measure.spread([never, 1, 2]),
                         measure.Spread(2, 1, never))


class TableTest(unittest.TestCase):
    def test_number(self):
        self.assertEqual([table.number(v) for v in
                          (None, math.inf, 0, 0.123, 12.34, 123.4)],
                         ["-", "never", "0", "0.12", "12.3", "123"])

    def test_range(self):
        spread = measure.Spread(2.0, 1.0, 3.0)
        self.assertEqual(table.median_and_range(spread),
                         "2.00 [1.00 .. 3.00]")
        self.assertEqual(table.median_and_range(measure.Spread(2, 2, 2)),
                         "2")
        self.assertEqual(table.median_and_range(None), "-")

    def test_aligned(self):
        lines = table.aligned([["", "x"], ["row", "1.0"]]).splitlines()
        self.assertEqual(len(set(map(len, lines))), 1)
        self.assertEqual(len(lines), 3)


if __name__ == "__main__":
    unittest.main()
