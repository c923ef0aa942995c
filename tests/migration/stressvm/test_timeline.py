#
# VMs with the stress guest: what is sampled
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import itertools
import unittest

from stressvm.timeline import Sampler
from stressvm.waiting import wait_until

SOON = 20


class Side:
    """A guest of two vCPUs that has done so many operations"""
    nr_vcpus = 2

    def __init__(self, *ops: int):
        self.ops = ops.__getitem__


class SamplerTest(unittest.TestCase):
    def test_one_side(self):
        samples = []
        with Sampler(samples, Side(3, 5)):
            wait_until("two samples", SOON, lambda: len(samples) >= 2)
        self.assertEqual({sample.ops for sample in samples}, {(3, 5)})
        self.assertLess(samples[0].time, samples[1].time)

    def test_the_side_that_runs(self):
        samples = []
        with Sampler(samples, Side(3, 5), Side(0, 8)):
            wait_until("a sample", SOON, lambda: samples)
        self.assertEqual(samples[0].ops, (3, 8))

    def test_clock(self):
        samples = []
        with Sampler(samples, Side(3, 5), clock=itertools.count(7).__next__):
            wait_until("a sample", SOON, lambda: samples)
        self.assertEqual(samples[0].time, 7)


if __name__ == "__main__":
    unittest.main()
