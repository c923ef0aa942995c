#
# Dirty throttle tests: who empties the dirty rings, and what that costs
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Experiments in which nothing is throttled, but memory is logged.

A migration on a link so slow that it stays in its first pass sees to that.
"""

import contextlib
import os
import time

from dataclasses import dataclass
from typing import Iterator

from stressvm import measure
from stressvm.vm import StressVM
from stressvm.waiting import TimeLimit

from dirtythrottle import kvmshim
from dirtythrottle.experiments import Figures
from dirtythrottle.kvmshim import KvmShim, KvmShimCounters
from dirtythrottle.migration import Migration
from dirtythrottle.strategy import Strategy
from dirtythrottle.testbed import Testbed

REAPER = "kvm-reaper"
# Resets rings for threads that must not, or in some QEMUs for all
RESETTER = "kvm-reset"

# MiB/s. The first pass is over 2 MiB at least, and firmware
LINK = 0.1

# Until the reaper knows its rings, and the first round of faults is over
SETTLE_SECONDS = 2


def thread_cpu_ns(pid: int, name: str) -> int:
    """The CPU time that a process's threads of one name have had"""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        path = "/proc/%d/task/%s/" % (pid, task)
        # A thread may end at any time
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(path + "comm") as comm, open(path + "schedstat") as stat:
                if comm.read().rstrip("\n") == name:
                    total += int(stat.read().split()[0])
    return total


@dataclass
class Window:
    """What has happened in a VM whose memory is logged, and for how long"""
    seconds: float
    counters: KvmShimCounters
    reaper_ns: int
    # Operations of each vCPU
    ops: list[int]
    stall_ms: float


class Logged:
    """A VM whose memory is logged"""

    def __init__(self, vm: StressVM, shim: KvmShim, strategy: Strategy):
        self.vm = vm
        self._shim = shim
        self._migration = Migration(vm, None, LINK, 1,
                                    strategy.capabilities).start()

    def _reaper_ns(self) -> int:
        pid = self.vm.get_pid()
        return thread_cpu_ns(pid, REAPER) + thread_cpu_ns(pid, RESETTER)

    @contextlib.contextmanager
    def window(self) -> Iterator[list[Window]]:
        """Measures its body; the list then has the one result"""
        vm, shim = self.vm, self._shim
        result = []
        vm.guest.new_epoch()
        vm.guest.wait_epoch()
        shim.new_maximum()
        begin = time.monotonic()
        counters = shim.read()
        reaper_ns = self._reaper_ns()
        vcpus = vm.guest.vcpus()
        yield result
        after = vm.guest.vcpus()
        result.append(Window(
            time.monotonic() - begin, shim.read().since(counters),
            self._reaper_ns() - reaper_ns,
            [b.ops - a.ops for a, b in zip(vcpus, after)],
            max(v.max_gap_ms for v in after)))
        # A dirty sync would have emptied the rings
        poll = self._migration.poll()
        if poll.status != "active" or poll.ram("dirty-sync-count") != 1:
            raise TimeLimit("the migration did not stay in its first pass")


@contextlib.contextmanager
def logged(binary: str, testbed: Testbed,
           strategy: Strategy) -> Iterator[Logged]:
    with KvmShim(strategy.gears) as shim:
        with StressVM(binary, testbed.roles, testbed.ring,
                      ram_mb=testbed.ram_mb, args=kvmshim.QEMU_ARGS,
                      wrapper=shim.wrapper()) as vm:
            vm.boot()
            result = Logged(vm, shim, strategy)
            time.sleep(SETTLE_SECONDS)
            yield result


def full_figures(window: Window) -> Figures:
    """What a full ring costs"""
    counters = window.counters
    return {
        "ring-full exits/min": 60 * counters.full / window.seconds,
        "full ring us": measure.per(counters.handled_ns / 1e3,
                                    counters.handled),
        "of that CPU us": measure.per(counters.handled_cpu_ns / 1e3,
                                      counters.handled),
        "longest full ring us": counters.handled_max_ns / 1e3
                                if counters.handled else None,
    }


class Reap:
    """How often rings get full, and what it costs to keep them from that"""
    SECONDS = 10

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        with logged(binary, testbed, strategy) as run:
            with run.window() as windows:
                time.sleep(self.SECONDS)
        window, = windows
        rates = [ops / window.seconds for ops in window.ops]
        return {
            "ops/s": sum(rates),
            "least ops/s of a vCPU": min(rates),
            "stall ms": window.stall_ms,
            "reaper CPU %": window.reaper_ns / window.seconds / 1e7,
            "pages protected again/s":
                window.counters.reset_entries / window.seconds,
            **full_figures(window),
        }


class Full:
    """What a full ring costs"""
    SECONDS = 5

    def __init__(self, busy: bool = False):
        # The BQL is held by the monitor most of the time
        self._busy = busy

    def _commands(self, vm: StressVM) -> int:
        """Keep the BQL busy; how many commands that were"""
        deadline = time.monotonic() + self.SECONDS
        commands = 0
        while time.monotonic() < deadline:
            vm.cmd("human-monitor-command", command_line="info mtree -f")
            commands += 1
        return commands

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        commands = 0
        with logged(binary, testbed, strategy) as run:
            with run.window() as windows:
                if self._busy:
                    commands = self._commands(run.vm)
                else:
                    time.sleep(self.SECONDS)
        window, = windows
        figures = {
            "ops/s": sum(window.ops) / window.seconds,
            "stall ms": window.stall_ms,
            "pages protected again/s":
                window.counters.reset_entries / window.seconds,
            **full_figures(window),
        }
        if self._busy:
            figures["commands/s"] = commands / window.seconds
        return figures
