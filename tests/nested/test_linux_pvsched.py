#
# Nested tests: a Linux guest whose driver tells what its processors do
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import contextlib
import os
import re
import tempfile
import time
import unittest

from dataclasses import dataclass
from typing import Iterator

from stressvm import probe
from stressvm.waiting import wait_until

from dirtythrottle.migration import Migration

from linuxguest import CPUS, DISK_MB, LinuxVM

DEVICE = "pvsched,boost=on"
ID = 0x1af4, 0x10f0

# Registers, and what lines contain; see pvsched-abi.h
WINDOW, WINDOW_SIZE = 0x1000, 0x20
REGISTERED = 1
LINE_SIZE = 64
STATE = 8
RT_RUNNING, RT_WAITING = 1 << 3, 1 << 4
RT = RT_RUNNING | RT_WAITING
BOOSTED = 1 << 0

# Much more than any of it takes by the inner machine's time
SECONDS = 60
LINK_MB = 100
DOWNTIME_MS = 300

# For so long an RT task asks to be boosted, at least
RT_US = 500000

COMPLAINTS = "WARNING:|BUG:|Call Trace|Oops|lockup|detected stall"

# An RT task that sleeps nearly always, and one that never does
SLEEPER = "cyclictest -q -t 1 -a 1 -p 80 -i 20000 -l 1000000"
RUNNER = "stress-ng -q --cpu 1 --taskset 1 --sched fifo --sched-prio 10"


@dataclass
class Request:
    """What a guest has written to a line"""
    activities: int
    number: int
    most_us: int


class PvschedVM(LinuxVM):
    """A VM with the device, and the guest's lines as the host sees them"""

    def __init__(self, binary: str, disk: str, incoming: bool = False):
        super().__init__(binary, disk, incoming=incoming, devices=[DEVICE],
                         loads=["timers"])

    def _words(self, where: int, number: int) -> list[int]:
        text = self.cmd("human-monitor-command",
                        command_line="xp /%dxw 0x%x" % (number, where))
        return [int(word, 16) for word in re.findall(r"0x([0-9a-f]+)", text)]

    def _bar(self) -> int:
        return next(device["regions"][0]["address"]
                    for bus in self.cmd("query-pci")
                    for device in bus["devices"]
                    if (device["id"]["vendor"], device["id"]["device"]) == ID)

    def lines(self) -> list[int]:
        """Where each vCPU's line lies; 0 for those that have none"""
        bar = self._bar()
        found = []
        for number in range(CPUS):
            low, high, status = self._words(
                bar + WINDOW + number * WINDOW_SIZE, 3)
            found.append(low | high << 32 if status == REGISTERED else 0)
        return found

    def start(self, name: str, command: str) -> None:
        """Let the guest run a command, until end()"""
        self.run("setsid %s >/dev/null 2>&1 & echo $! >/run/%s.group" %
                 (command, name))

    def end(self, name: str) -> None:
        self.run("kill -9 -$(cat /run/%s.group)" % name)

    def request(self, line: int) -> Request:
        low, most_us = self._words(line, 2)
        return Request(low & 0xff, low >> 16, most_us)

    def requests(self, line: int, seconds: float) -> Iterator[Request]:
        """What a line says, again and again"""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            yield self.request(line)

    def wait_for(self, line: int, activity: int) -> Request:
        """The first request that has it"""
        for request in self.requests(line, SECONDS):
            if request.activities & activity:
                return request
        raise AssertionError("a line never says %#x: %s" %
                             (activity, self.messages()))

    def boosted(self, line: int) -> bool:
        return bool(self._words(line + STATE, 1)[0] & BOOSTED)

    def wait_boosted(self, line: int) -> None:
        """It rings before it halts, so that takes no time."""
        wait_until("boosted", SECONDS, lambda: self.boosted(line))

    def wait_until_quiet(self, line: int) -> None:
        """
        Wait until a line says nothing of RT tasks for a while

        The kernel has some itself, which run now and then.
        """
        wait_until("no RT task", SECONDS, lambda: not self.boosted(line) and
                   not any(request.activities & RT
                           for request in self.requests(line, 0.5)))


class LinuxPvschedTest(unittest.TestCase):
    """
    One guest for all tests, as to boot it takes longest

    Each test leaves it as it was, maybe somewhere else.
    """

    stack = contextlib.ExitStack()
    disk = ""
    vm: PvschedVM

    @classmethod
    def setUpClass(cls) -> None:
        cls.addClassCleanup(cls.stack.close)
        where = cls.stack.enter_context(tempfile.TemporaryDirectory())
        cls.disk = os.path.join(where, "disk")
        with open(cls.disk, "wb") as file:
            file.truncate(DISK_MB << 20)
        cls.vm = cls.new_vm().boot()
        # What the kernel finds wrong with the inner machine is not ours.
        cls.vm.run("dmesg -c >/dev/null")

    @classmethod
    def new_vm(cls, incoming: bool = False) -> PvschedVM:
        return cls.stack.enter_context(
            PvschedVM(probe.default_binary(), cls.disk, incoming))

    def tearDown(self) -> None:
        self.assertEqual(self.vm.run("dmesg -c | grep -E '%s' || :" %
                                     COMPLAINTS), [])
        self.check_works()

    def check_works(self) -> None:
        """Each vCPU has a line, in which requests come and go"""
        vm = self.vm
        lines = vm.lines()
        self.assertEqual(len(set(lines) - {0}), CPUS, lines)
        for line in lines:
            self.assertEqual(line % LINE_SIZE, 0)
            before = vm.request(line).number
            wait_until("more requests", SECONDS,
                       lambda: vm.request(line).number != before)
            vm.wait_until_quiet(line)

    def check_offline_and_online(self) -> None:
        online = "/sys/devices/system/cpu/cpu1/online"
        first, _ = self.vm.lines()
        self.vm.run("echo 0 >" + online)
        self.assertEqual(self.vm.lines(), [first, 0])
        self.vm.run("echo 1 >" + online)
        self.assertEqual(self.vm.lines()[0], first)
        self.assertNotEqual(self.vm.lines()[1], 0)

    def check_remove_and_load(self) -> None:
        self.vm.run("rmmod pvsched")
        self.assertEqual(self.vm.lines(), [0] * CPUS)
        self.vm.run("insmod /modules/pvsched.ko")
        self.assertEqual(len(set(self.vm.lines()) - {0}), CPUS)

    def test_rt_task_waits(self) -> None:
        other, line = self.vm.lines()
        self.vm.start("sleeper", SLEEPER)
        request = self.vm.wait_for(line, RT_WAITING)
        self.assertGreaterEqual(request.most_us, RT_US)
        self.vm.wait_boosted(line)
        # It was told to stay where it is.
        self.assertFalse([request for request in self.vm.requests(other, 1)
                          if request.activities & RT_WAITING])
        self.vm.end("sleeper")
        self.vm.wait_until_quiet(line)

    def test_rt_task_runs(self) -> None:
        _, line = self.vm.lines()
        self.vm.start("runner", RUNNER)
        request = self.vm.wait_for(line, RT_RUNNING)
        self.assertGreaterEqual(request.most_us, RT_US)
        self.vm.end("runner")
        self.vm.wait_until_quiet(line)

    def test_processor_goes_offline(self) -> None:
        self.check_offline_and_online()

    def test_module_is_removed(self) -> None:
        self.check_remove_and_load()

    def test_migration_there_and_back(self) -> None:
        self.vm.start("sleeper", SLEEPER)
        lines = self.vm.lines()
        self.vm.wait_for(lines[1], RT_WAITING)
        for _ in range(2):
            src, dst = self.vm, self.new_vm(incoming=True)
            dst.launch()
            migration = Migration(src, dst, LINK_MB, DOWNTIME_MS)
            end = migration.start().watch(SECONDS)
            self.assertIsNotNone(end, "not within %d s" % SECONDS)
            self.assertEqual(end.status, "completed", end.info)
            src.shutdown()
            type(self).vm = dst
            self.assertEqual(dst.lines(), lines)
            dst.wait_for(lines[1], RT_WAITING)
            dst.wait_boosted(lines[1])
        self.vm.end("sleeper")
        self.vm.wait_until_quiet(lines[1])
        self.check_offline_and_online()
        self.check_remove_and_load()


if __name__ == "__main__":
    unittest.main()
