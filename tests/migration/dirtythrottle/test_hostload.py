#
# Dirty throttle tests: what the bench runs beside a VM, and how it measures
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import signal
import time
import unittest

from stressvm.stressguest import Role
from stressvm.waiting import wait_until

from dirtythrottle.hostload import HostTask, Hogs, cpu_ns, next_moment
from dirtythrottle.scheduling import telling
from dirtythrottle.strategy import BOOSTED, QUOTA_WAITS, UNBOOSTED

SOON = 20


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class HostTaskTest(unittest.TestCase):
    def test_moments(self):
        """None twice, and none that has passed"""
        self.assertEqual([next_moment(100, now, 10) for now in
                          (100, 109, 110, 155)], [110, 110, 120, 160])

    def test_counts(self):
        with HostTask() as task:
            task.begin()
            wait_until("wakeups", SOON, lambda: task.lateness().count >= 20)
            first = task.lateness()
            self.assertLessEqual(first.average_us, first.max_us)
            # No more than there are moments, and one that was under way
            begin = time.monotonic()
            task.begin()
            time.sleep(0.1)
            count = task.lateness().count
            self.assertLessEqual(count, (time.monotonic() - begin) * 1000 + 2)
            pid = task.pid
        self.assertFalse(exists(pid))

    def test_late(self):
        """It cannot wake up in time if it may not run at all"""
        with HostTask() as task:
            task.begin()
            os.kill(task.pid, signal.SIGSTOP)
            time.sleep(0.05)
            os.kill(task.pid, signal.SIGCONT)
            wait_until("late", SOON,
                       lambda: task.lateness().max_us >= 40000)


class HogsTest(unittest.TestCase):
    def test_hogs(self):
        cpus = sorted(os.sched_getaffinity(0))
        with Hogs(2) as hogs:
            pids = hogs.pids
            self.assertEqual([os.sched_getaffinity(pid) for pid in pids],
                             [{cpu} for cpu in cpus for _ in range(2)])
            had = hogs.cpu_ns()
            wait_until("both had CPU time", SOON,
                       lambda: all(cpu_ns(pid) > 50e6 for pid in pids))
            self.assertGreater(hogs.cpu_ns(), had)
        self.assertFalse(any(map(exists, pids)))


class TellingTest(unittest.TestCase):
    def test_who_tells(self):
        roles = (Role("latency", interval=500), Role("reader", mb=16))
        self.assertEqual(telling(roles, UNBOOSTED), roles)
        self.assertEqual(telling(roles, BOOSTED),
                         (Role("latency", interval=500, pvsched=1), roles[1]))

    def test_device(self):
        self.assertEqual([s.device_args() for s in
                          (UNBOOSTED, QUOTA_WAITS, BOOSTED)],
                         [(), ("-device", "pvsched"),
                          ("-device", "pvsched,boost=on")])


if __name__ == "__main__":
    unittest.main()
