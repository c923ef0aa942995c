#
# VMs with the stress guest: its roles, and its counters in a file
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import struct
import tempfile
import threading
import unittest

from stressvm import stressguest
from stressvm.stressguest import Role, StressGuest, StressGuestError
from stressvm.waiting import TimeLimit

# Where these are in a vCPU's block, in units of 8 bytes
OPS, PASSES = 4, 5


class RolesTest(unittest.TestCase):
    def test_there_and_back(self):
        for word in ("idle", "writer,rate=5,mb=2", "reader,mb=1",
                     "hot,rate=9,pages=256", "burst,rate=1,mb=2,on=3,off=4",
                     "wakeups,rate=7", "screen,rate=9,pages=3,remap=1",
                     "disk,mb=2", "balloon,rate=3,mb=2",
                     "latency,interval=5,work=6,pvsched=1", "rogue,pvsched=1",
                     "locker,rate=3,mb=2,hold=4,writes=5,pvsched=0", "asker"):
            self.assertEqual(Role.parse(word).word(), word)

    def test_bad(self):
        for word in ("wirter", "writer,size=5", "writer,rate=x", "writer,mb",
                     "reader,pages=4", "wakeups,mb=1", "latency,rate=3",
                     "writer,pvsched=1"):
            with self.assertRaises(StressGuestError, msg=word):
                Role.parse(word)


class MemoryFileTest(unittest.TestCase):
    """Reading a guest's RAM, here a file that we made up"""

    def setUp(self):
        file = self.enterContext(tempfile.NamedTemporaryFile())
        file.truncate(stressguest.COUNTERS + 17 * stressguest.PAGE_SIZE)
        self.file = file
        self.guest = self.enterContext(StressGuest(file.name))

    def put(self, offset, *values):
        self.file.seek(stressguest.COUNTERS + offset)
        self.file.write(struct.pack("<%dQ" % len(values), *values))
        self.file.flush()

    def put_word(self, vcpu, index, value):
        self.put((1 + vcpu) * stressguest.PAGE_SIZE + 8 * index, value)

    def come_up(self):
        self.put(0, stressguest.MAGIC, 2 << 32 | stressguest.VERSION, 1000,
                 stressguest.RUNNING, 0)
        self.put(2 * stressguest.PAGE_SIZE, 2, *range(11, 25), 8)
        self.guest.wait_up(1)

    def test_block(self):
        self.come_up()
        vcpu = self.guest.vcpu(1)
        self.assertEqual((vcpu.role, vcpu.ops, vcpu.passes, vcpu.errors,
                          vcpu.max_gap_ns, vcpu.sequence),
                         ("reader", 14, 15, 16, 20, 8))

    def test_ops(self):
        self.assertEqual(self.guest.ops(1), 0)
        self.come_up()
        self.assertEqual((self.guest.ops(0), self.guest.ops(1)), (0, 14))

    def put_waits(self, vcpu, total_ns, counts):
        self.file.seek(stressguest.COUNTERS +
                       (1 + vcpu) * stressguest.PAGE_SIZE + 2048)
        self.file.write(struct.pack("<Q352I", total_ns, *(
            counts.get(i, 0) for i in range(352))))
        self.file.flush()

    def test_waits(self):
        self.come_up()
        # 64 ns each, then less than 2, 2.125 and, at the end, 2^31 us
        self.put_waits(1, 5000, {0: 1, 31: 98})
        before = self.guest.waits(1)
        self.assertEqual((before.count, before.average_us),
                         (99, 5000 / 99 / 1000))
        self.assertEqual([before.quantile_us(q) for q in (0.01, 0.5, 1)],
                         [0.064, 2.048, 2.048])
        self.put_waits(1, 9000, {0: 1, 31: 98, 32: 1, 351: 1})
        after = self.guest.waits(1).since(before)
        self.assertEqual((after.count, after.total_ns), (2, 4000))
        self.assertEqual([after.quantile_us(q) for q in (0.5, 0.51)],
                         [2.176, 2.0**31 / 1000])
        self.assertEqual((before + after).count, 101)
        with self.assertRaises(StressGuestError):
            before.since(self.guest.waits(1))
        self.assertIsNone(self.guest.waits(0).quantile_us(0.5))
        self.assertIsNone(self.guest.waits(0).average_us)

    def test_line(self):
        self.come_up()
        self.put(2 * stressguest.PAGE_SIZE + 1024, 1, 2, 3)
        self.assertEqual(self.guest.line(1), (1, 2, 3))

    def test_looking_brings_no_page_into_being(self):
        fd = os.memfd_create("looked-at")
        try:
            os.truncate(fd, stressguest.COUNTERS +
                        17 * stressguest.PAGE_SIZE)
            with StressGuest("/proc/self/fd/%d" % fd) as guest:
                self.assertEqual(guest.ops(3), 0)
            self.assertEqual(os.fstat(fd).st_blocks, 0)
        finally:
            os.close(fd)

    def test_rate(self):
        self.come_up()
        earlier = self.guest.vcpu(1)
        self.put_word(1, OPS, 24)
        later = self.guest.vcpu(1)
        self.assertAlmostEqual(later.rate_since(earlier),
                               10 / (later.time - earlier.time))
        for wrong in later, earlier:
            with self.assertRaises(StressGuestError):
                wrong.rate_since(later)

    def test_wait_passes(self):
        """vCPU 0 has no region, so nobody waits for it"""
        self.come_up()
        with self.assertRaises(TimeLimit):
            self.guest.wait_passes(1, 0.1)
        threading.Timer(0.1, self.put_word, (1, PASSES, 16)).start()
        self.assertEqual([(vcpu.passes, vcpu.errors)
                          for vcpu in self.guest.wait_passes(1, 20)],
                         [(0, 0), (16, 16)])

    def test_epoch(self):
        self.come_up()
        self.assertEqual(self.guest.new_epoch(), 23)
        self.assertEqual(self.guest.epoch, 23)


if __name__ == "__main__":
    unittest.main()
