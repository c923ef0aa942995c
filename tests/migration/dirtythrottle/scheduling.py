#
# Dirty throttle tests: what the host's scheduler does to vCPUs
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Experiments with vCPUs that want a processor at the right moment, or more of one
than they should get, or that need what another one holds.
"""

import contextlib
import os
import time

from dataclasses import replace
from typing import Iterator, Sequence

from stressvm import measure
from stressvm.stressguest import Role, Waits
from stressvm.vm import StressVM

from dirtythrottle.experiments import (
    Converge, Figures, Prepared, worst_gap
)
from dirtythrottle.hostload import HostTask, Hogs, cpu_ns
from dirtythrottle.strategy import Strategy
from dirtythrottle.testbed import Testbed

# On each core of the host
HOGS = 2

# Until the scheduler knows who they are
SETTLE_SECONDS = 1

# Of SCHED_FIFO, the lowest, as the device takes
RT_PRIORITY = 1


def vcpu_threads(vm: StressVM) -> list[int]:
    """The thread of each vCPU"""
    return [vcpu["thread-id"] for vcpu in
            sorted(vm.cmd("query-cpus-fast"), key=lambda v: v["cpu-index"])]


def telling(roles: Sequence[Role], strategy: Strategy) -> tuple[Role, ...]:
    """The same roles, who tell the host what they do if it wants to know"""
    if strategy.pvsched is None:
        return tuple(roles)
    return tuple(replace(role, pvsched=1) if role.takes("pvsched") else role
                 for role in roles)


@contextlib.contextmanager
def scheduled(binary: str, testbed: Testbed,
              strategy: Strategy) -> Iterator[StressVM]:
    """A VM that runs, with what @strategy wants"""
    with StressVM(binary, telling(testbed.roles, strategy), testbed.ring,
                  ram_mb=testbed.ram_mb, args=strategy.device_args()) as vm:
        vm.boot()
        yield vm


def all_waits(vm: StressVM, kind: str) -> Waits:
    """Of all vCPUs of one kind"""
    found = [vm.guest.waits(i) for i, role in enumerate(vm.roles)
             if role.kind == kind]
    return sum(found[1:], found[0])


def exits_of_first(vm: StressVM) -> int:
    """How often the first vCPU has left the guest"""
    found = vm.cmd("query-stats", target="vcpu",
                   providers=[{"provider": "kvm", "names": ["exits"]}])
    return found[0]["stats"][0]["value"]


class Load:
    """Hogs and a task on the host, beside a VM's vCPUs"""

    def __init__(self, vm: StressVM, strategy: Strategy):
        self._vm = vm
        self._told_of = strategy.pvsched is not None
        self._static_rt = strategy.static_rt
        self._threads = vcpu_threads(vm)

    def __enter__(self) -> "Load":
        with contextlib.ExitStack() as stack:
            self._hogs = stack.enter_context(Hogs(HOGS))
            self._task = stack.enter_context(HostTask())
            if self._static_rt:
                self._be_real_time()
            time.sleep(SETTLE_SECONDS)
            self._stack = stack.pop_all()
        return self

    def _be_real_time(self) -> None:
        """Last, as nothing else may begin beside them"""
        for thread in self._threads:
            os.sched_setscheduler(thread, os.SCHED_FIFO,
                                  os.sched_param(RT_PRIORITY))

    def __exit__(self, *args: object) -> None:
        self._stack.__exit__(None, None, None)

    def _cpu_ns(self) -> tuple[int, int]:
        pid = self._vm.get_pid()
        return (self._hogs.cpu_ns(),
                sum(cpu_ns(pid, thread) for thread in self._threads))

    def _told(self) -> dict[str, int]:
        """What the device has counted for all vCPUs, if there is one"""
        if not self._told_of:
            return {}
        vcpus = self._vm.cmd("query-pvsched")["vcpus"]
        return {name: sum(vcpu[name] for vcpu in vcpus) for name in
                ("requests", "boosts", "refused", "rt-time")}

    def figures(self, seconds: float) -> Figures:
        """What they and the vCPUs get, for so long"""
        cpus = len(os.sched_getaffinity(0))
        begin = time.monotonic()
        told = self._told()
        before = self._cpu_ns()
        self._task.begin()
        time.sleep(seconds)
        after = self._cpu_ns()
        lateness = self._task.lateness()
        whole = (time.monotonic() - begin) * cpus * 1e9
        hogs, vcpus = (measure.share(b - a, whole)
                       for a, b in zip(before, after))
        return {
            "host task average us": lateness.average_us,
            "host task max us": lateness.max_us,
            "hogs' CPU %": hogs,
            "vCPUs' CPU %": vcpus,
            **{"%s/s" % name: (number - told[name]) / seconds
               for name, number in self._told().items()},
        }


class Latency:
    """How late vCPUs wake up on a busy host, and what that costs the host"""
    SECONDS = 5

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with (scheduled(binary, testbed, strategy) as vm,
              Load(vm, strategy) as load):
            vm.guest.new_epoch()
            vm.guest.wait_epoch()
            before = all_waits(vm, "latency")
            of_host = load.figures(self.SECONDS)
            waits = all_waits(vm, "latency").since(before)
            return {
                "wakeup average us": waits.average_us,
                "wakeup 99 % us": waits.quantile_us(0.99),
                "wakeup max us": worst_gap(vm.guest, "latency") * 1000,
                "wakeups/s": waits.count / self.SECONDS,
                **of_host,
            }


class Beside:
    """What a host's load gets beside vCPUs"""
    SECONDS = 10

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with (scheduled(binary, testbed, strategy) as vm,
              Load(vm, strategy) as load):
            return load.figures(self.SECONDS)


class Interrupts:
    """What it costs a guest to tell of each interrupt"""
    SECONDS = 2

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with scheduled(binary, testbed, strategy) as vm:
            pid, thread = vm.get_pid(), vcpu_threads(vm)[0]
            exits = exits_of_first(vm)
            before, ran = vm.guest.vcpu(0).ops, cpu_ns(pid, thread)
            time.sleep(self.SECONDS)
            ops = vm.guest.vcpu(0).ops - before
            ran = cpu_ns(pid, thread) - ran
            return {
                "ns per interrupt": measure.per(ran, ops),
                "interrupts per exit":
                    measure.per(ops, exits_of_first(vm) - exits),
            }


class Lockers(Converge):
    """Migrate vCPUs that need the same lock; who dirties memory is slowed"""

    def _device(self, testbed: Testbed, strategy: Strategy) -> Testbed:
        return replace(testbed, roles=telling(testbed.roles, strategy),
                       args=strategy.device_args())

    @staticmethod
    def _innocent(run: Prepared) -> list[int]:
        return [i for i, role in enumerate(run.src.roles) if not role.writes]

    def _waits(self, run: Prepared) -> Waits:
        found = [run.src.guest.waits(i) for i in self._innocent(run)]
        return sum(found[1:], found[0])

    def _prepare(self, run: Prepared, testbed: Testbed,
                 strategy: Strategy) -> Figures:
        self._before = self._waits(run)
        return {}

    def _cost(self, run: Prepared, strategy: Strategy, begin: float,
              end: float) -> Figures:
        """Waits are those of vCPUs that dirty nothing"""
        waits = self._waits(run).since(self._before)
        vcpus = run.src.guest.vcpus()
        return {
            "longest wait ms": max(vcpus[i].max_gap_ms
                                   for i in self._innocent(run)),
            "wait average us": waits.average_us,
            "wait 99 % us": waits.quantile_us(0.99),
            "wait 99.9 % us": waits.quantile_us(0.999),
            **super()._cost(run, strategy, begin, end),
        }

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        return super().run(binary, self._device(testbed, strategy), strategy)
