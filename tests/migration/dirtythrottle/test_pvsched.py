#
# Dirty throttle tests: vCPUs that tell the host what they do
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import random
import resource
import sys
import time
import unittest

from typing import Any, Sequence

from stressvm import probe
from stressvm.stressguest import BOOTING, Role
from stressvm.vm import StressVM
from stressvm.waiting import wait_until

from dirtythrottle.base import EVENTUALLY, SOON, ThrottleTest
from dirtythrottle.migration import Migration
from dirtythrottle.scheduling import vcpu_threads

DEVICE = ("-device", "pvsched,id=pvsched0,boost=on,addr=5")

# ACPI's registers for PCI hotplug on machine type pc; see
# docs/specs/acpi_pci_hotplug.rst
_PCI_EJECT = 0xae08
_PCI_BUS = 0xae10

# Asks to be boosted before it is halted, and again when it wakes up
SLEEPER = Role("latency", interval=1000, pvsched=1)
# The same without asking
QUIET = Role("latency", interval=1000)
ROGUE = Role("rogue", pvsched=1)

# Of the line
BOOSTED, REFUSED = 1, 4

REAL_TIME = (os.SCHED_FIFO, os.SCHED_RR)

# A QEMU that may not change how its threads are scheduled, though it is root's;
# where limits and rights cannot be set like that, it ends with status 77
_NO_RIGHT = """
import ctypes, os, resource, sys
if ctypes.CDLL(None).prctl(24, 23, 0, 0, 0):
    sys.exit(77)
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
try:
    resource.setrlimit(resource.RLIMIT_NICE, ({nice}, {nice}))
except ValueError:
    sys.exit(77)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def without_right(nice: int = 0) -> tuple[str, ...]:
    """What comes before a QEMU that may lower nice values only to 20 - @nice"""
    return (sys.executable, "-c", _NO_RIGHT.format(nice=nice))


def may_be_boosted() -> bool:
    """Whether this process, and so its children, may have real-time threads"""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, policy, parameters)
    return True


class PvschedTest(ThrottleTest):
    ring = 0

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if not probe.has_device(cls.binary, "pvsched"):
            raise unittest.SkipTest("%s has no device pvsched" % cls.binary)
        if not may_be_boosted():
            raise unittest.SkipTest("no right to real-time priorities")

    def telling(self, roles: Sequence[Role] = (SLEEPER, QUIET),
                args: Sequence[str] = DEVICE, **options: Any) -> StressVM:
        return self.source(roles, args=args, ram_mb=64, **options)

    @staticmethod
    def policy(vm: StressVM, vcpu: int = 0) -> int:
        return os.sched_getscheduler(vcpu_threads(vm)[vcpu])

    def is_boosted(self, vm: StressVM, vcpu: int = 0) -> bool:
        return self.policy(vm, vcpu) in REAL_TIME

    def wait_boosted(self, vm: StressVM, vcpu: int = 0) -> None:
        wait_until("vCPU %d boosted" % vcpu, SOON,
                   lambda: self.is_boosted(vm, vcpu))

    def wait_normal(self, vm: StressVM, vcpu: int = 0) -> None:
        wait_until("vCPU %d not boosted" % vcpu, SOON,
                   lambda: not self.is_boosted(vm, vcpu))

    @staticmethod
    def told(vm: StressVM, vcpu: int = 0) -> dict[str, Any]:
        """What QEMU tells of a vCPU"""
        return vm.cmd("query-pvsched")["vcpus"][vcpu]

    def check_wakes_up(self, vm: StressVM) -> None:
        before = [v.ops for v in vm.guest.vcpus()]
        wait_until("wakeups", SOON, lambda: all(
            v.ops > ops for v, ops in zip(vm.guest.vcpus(), before)))


class BoostTest(PvschedTest):
    """Who asks is boosted, and nobody else, and not for longer than it may"""

    def test_who_asks(self) -> None:
        vm = self.telling()
        self.wait_boosted(vm)
        wait_until("told", SOON, lambda: vm.guest.line(0)[1] & BOOSTED)
        self.assertFalse(self.is_boosted(vm, 1))
        self.assertEqual(vm.guest.line(1), (0, 0, 0))
        self.check_wakes_up(vm)

    def test_off(self) -> None:
        """By default, and again at run time; nobody has to ask anew"""
        vm = self.telling(args=("-device", "pvsched,id=pvsched0"))
        self.check_wakes_up(vm)
        self.assertFalse(self.is_boosted(vm))
        path = "/machine/peripheral/pvsched0"
        vm.cmd("qom-set", path=path, property="boost", value=True)
        self.wait_boosted(vm)
        vm.cmd("qom-set", path=path, property="boost", value=False)
        self.wait_normal(vm)
        before = vm.guest.vcpu(0).ops
        wait_until("wakeups", SOON, lambda:
                   vm.guest.vcpu(0).ops > before + 10)
        self.assertFalse(self.is_boosted(vm))

    def test_stop(self) -> None:
        vm = self.telling()
        self.wait_boosted(vm)
        vm.cmd("stop")
        self.assertFalse(self.is_boosted(vm))
        vm.cmd("cont")
        self.wait_boosted(vm)

    def test_reset(self) -> None:
        """Whoever comes after a reset has not asked for anything"""
        vm = self.telling()
        self.wait_boosted(vm)
        vm.cmd("stop")
        vm.guest.expect_boot()
        vm.cmd("system_reset")
        vm.cmd("cont")
        # What it had asked for is still in its memory
        self.assertTrue(vm.guest.line(0)[0])
        looks = 0
        while True:
            boosted = self.is_boosted(vm)
            if vm.guest.state != BOOTING:
                break
            self.assertFalse(boosted)
            looks += 1
            time.sleep(0.001)
        self.assertGreater(looks, 1)
        vm.wait_at_work()
        self.wait_boosted(vm)

    def test_unplug(self) -> None:
        vm = self.telling()
        self.wait_boosted(vm)
        vm.cmd("device_del", id="pvsched0")
        # What a guest with ACPI does when it is asked to let it go
        for port, value in (_PCI_BUS, 0), (_PCI_EJECT, 1 << 5):
            vm.cmd("human-monitor-command",
                   command_line="o/w 0x%x 0x%x" % (port, value))
        wait_until("unplugged", SOON, lambda: "pvsched" not in vm.cmd(
            "human-monitor-command", command_line="info qtree"))
        self.assertFalse(self.is_boosted(vm))
        self.check_wakes_up(vm)
        self.assertFalse(self.is_boosted(vm))

    def test_migration(self) -> None:
        src = self.telling()
        self.wait_boosted(src)
        dst = self.destination(src, args=DEVICE, ram_mb=64)
        Migration(src, dst).start().wait("completed", EVENTUALLY)
        self.assertFalse(self.is_boosted(src))
        dst.guest.wait_up(SOON)
        self.wait_boosted(dst)
        self.assertFalse(self.is_boosted(dst, 1))
        self.check_wakes_up(dst)

    def test_snapshot_of_parameters(self) -> None:
        """What an operator sets meanwhile stays"""
        vm = self.telling()
        self.wait_boosted(vm)
        thread, _ = vcpu_threads(vm)
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(7))
        vm.cmd("stop")
        self.assertEqual((os.sched_getscheduler(thread),
                          os.sched_getparam(thread).sched_priority),
                         (os.SCHED_FIFO, 7))
        vm.cmd("cont")
        self.check_wakes_up(vm)

    def test_baseline(self) -> None:
        """It gets back the nice value that it had"""
        vm = self.telling(args=("-device", "pvsched,id=pvsched0"))
        thread, _ = vcpu_threads(vm)
        os.setpriority(os.PRIO_PROCESS, thread, 3)
        vm.cmd("qom-set", path="/machine/peripheral/pvsched0",
               property="boost", value=True)
        self.wait_boosted(vm)
        vm.cmd("stop")
        self.assertEqual((os.sched_getscheduler(thread),
                          os.getpriority(os.PRIO_PROCESS, thread)),
                         (os.SCHED_OTHER, 3))

    def test_rogue(self) -> None:
        """Who asks for ever is refused at times, and is normal then"""
        vm = self.telling((ROGUE,))
        wait_until("refused", SOON, lambda: vm.guest.line(0)[1] & REFUSED)
        self.wait_normal(vm)


class RightTest(PvschedTest):
    """A QEMU that may do less than others works, and says so"""

    def limited(self, nice: int) -> StressVM:
        wrapper = without_right(nice)
        if os.spawnvp(os.P_WAIT, wrapper[0], [*wrapper, "true"]):
            self.skipTest("limits and rights cannot be set")
        return self.telling(wrapper=wrapper)

    def test_none(self) -> None:
        vm = self.limited(0)
        self.check_wakes_up(vm)
        wait_until("a warning", SOON, lambda: "pvsched" in vm.read_log())
        thread, _ = vcpu_threads(vm)
        self.assertEqual((os.sched_getscheduler(thread),
                          os.getpriority(os.PRIO_PROCESS, thread)),
                         (os.SCHED_OTHER, os.getpriority(
                             os.PRIO_PROCESS, vm.get_pid())))
        self.assertFalse(vm.guest.line(0)[1] & BOOSTED)

    def test_nice(self) -> None:
        vm = self.limited(40)
        thread, other = vcpu_threads(vm)
        wait_until("a lower nice value", SOON, lambda:
                   os.getpriority(os.PRIO_PROCESS, thread) <
                   os.getpriority(os.PRIO_PROCESS, other))
        self.assertEqual(os.sched_getscheduler(thread), os.SCHED_OTHER)
        vm.cmd("stop")
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, thread),
                         os.getpriority(os.PRIO_PROCESS, other))


    def test_more(self) -> None:
        """Who watches has to come before those that are boosted"""
        vm = self.limited(40)
        thread, _ = vcpu_threads(vm)
        wait_until("a lower nice value", SOON, lambda:
                   os.getpriority(os.PRIO_PROCESS, thread) <
                   os.getpriority(os.PRIO_PROCESS, vm.get_pid()))
        resource.prlimit(vm.get_pid(), resource.RLIMIT_RTPRIO, (2, 2))
        vm.cmd("qom-set", path="/machine/peripheral/pvsched0",
               property="boost", value=True)
        self.wait_boosted(vm)
        wait_until("a thread that comes first", SOON, lambda: 2 in (
            os.sched_getparam(int(task)).sched_priority
            for task in os.listdir("/proc/%d/task" % vm.get_pid())))


class SpoiledLineTest(PvschedTest):
    """Whatever is in the line, QEMU is well, and nobody stays boosted"""
    SECONDS = 3

    def test_garbage(self) -> None:
        vm = self.telling((ROGUE, SLEEPER))
        noise = random.Random(16)
        until = time.monotonic() + self.SECONDS
        while time.monotonic() < until:
            for vcpu in range(2):
                vm.guest.spoil_line(vcpu, noise.randbytes(64))
        self.check_wakes_up(vm)
        vm.cmd("stop")
        self.assertEqual([self.is_boosted(vm, i) for i in range(2)],
                         [False] * 2)


class PenaltyTest(PvschedTest):
    """A vCPU that is slowed down is not while it holds the lock"""
    ring = 4096
    needs = ("dirty-limit",)

    # It dirties 16 times what it may
    DIRTIES = Role("locker", rate=400, hold=1000, writes=10, mb=4, pvsched=1)
    LIMIT = 1

    def test_waits(self) -> None:
        vm = self.telling((self.DIRTIES, Role("locker", rate=1000)),
                          args=("-device", "pvsched"))
        full = self.rate(vm)
        vm.limit(self.LIMIT)
        self.wait_slow(vm, full)
        wait_until("penalties that have waited", SOON, lambda:
                   self.told(vm)["waits"] > 10)
        # They are paid nevertheless, and nobody is boosted for that
        self.wait_slow(vm, full)
        told = self.told(vm)
        self.assertEqual((told["boosts"], told["in-force"]), (0, "normal"))
        # and not while others wait for the lock
        self.wait_fast(vm, 1000, 1)


class NoDeviceTest(ThrottleTest):
    """What does without the device, and what does not"""
    ring = 0

    def test_roles(self) -> None:
        vm = self.source((QUIET, Role("locker", rate=500, writes=5, mb=2),
                          Role("locker", rate=500, hold=300), Role("rogue"),
                          Role("asker")), ram_mb=64)
        before = [vm.guest.waits(i) for i in range(3)]
        passes = vm.guest.vcpu(1).passes
        wait_until("all at work", SOON, lambda: all(
            vm.guest.waits(i).since(before[i]).count > 100 for i in range(3))
            and vm.guest.vcpu(1).passes > passes)
        self.assertEqual([v.errors for v in vm.guest.vcpus()], [0] * 5)
        self.assertTrue(all(v.ops for v in vm.guest.vcpus()))
        for i in range(3):
            # A wait is an operation, and what they have in common agrees
            waits = vm.guest.waits(i)
            vcpu = vm.guest.vcpu(i)
            self.assertLessEqual(abs(waits.count - vcpu.ops), 50)
            self.assertLessEqual(waits.quantile_us(0.5),
                                 vcpu.max_gap_total_ns / 1000 * 17 / 16 + 1)

    def test_asks_in_vain(self) -> None:
        vm = self.enterContext(StressVM(self.binary, (SLEEPER,), ram_mb=64))
        vm.launch()
        with self.assertRaisesRegex(Exception, "stopped with an error"):
            vm.guest.wait_up(SOON)


if __name__ == "__main__":
    unittest.main()
