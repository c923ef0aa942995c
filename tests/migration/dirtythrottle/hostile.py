#
# Dirty throttle tests: a guest that does its worst, and who wants it to stop
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
All vCPUs write as fast as they can, their rings are small, and their roles
change at random. How long do stop, cancel and quit take then?

On a machine with fewer cores than vCPUs much of that is waiting for a core. So
beside the time it is told how long QEMU was asleep in it: none of its threads
had a core or wanted one. A penalty that nothing ends shows there, and a busy
machine does not.
"""

import random
import threading
import time

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

from stressvm.stressguest import WANTED_ROLES, Role
from stressvm.timeline import ENDED
from stressvm.vm import StressVM
from stressvm.waiting import TimeLimit, wait_until

from dirtythrottle.experiments import Figures
from dirtythrottle.migration import LASTING_LINK, POLL_SECONDS, Migration
from dirtythrottle.strategy import NONE, Strategy
from dirtythrottle.testbed import Testbed

RING = 1024
TESTBED = Testbed(roles=(Role("writer", mb=16),) * 4, ring=RING, limit=1,
                  ram_mb=96)

# Fast enough to be past the first pass soon
_LINK = 200
_PATIENCE_SECONDS = 60
# No multiple of a penalty's length, so that it is met anywhere
_BETWEEN_SECONDS = 0.137
_POLL_SECONDS = 0.002


class Awake(threading.Thread):
    """
    How much CPU time a process uses or waits for while this is entered

    Threads end meanwhile, and all of them at quit, so it looks many times.
    """

    def __init__(self, pid: int):
        super().__init__(name="awake", daemon=True)
        self._tasks = Path("/proc/%d/task" % pid)
        self._done = threading.Event()
        # A thread that has ended keeps what it had at the last look
        self._of_thread: dict[str, int] = {}
        self._look()
        self._before = sum(self._of_thread.values())

    def __enter__(self) -> "Awake":
        self.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._done.set()
        self.join()
        self._look()

    def run(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            for task in self._tasks.iterdir():
                ran, waited, _ = (task / "schedstat").read_text().split()
                self._of_thread[task.name] = int(ran) + int(waited)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            # It ends, thread by thread
            pass

    @property
    def seconds(self) -> float:
        return (sum(self._of_thread.values()) - self._before) / 1e9


@dataclass(frozen=True)
class HeldUp:
    """How long something took, and how much of it QEMU slept; milliseconds"""
    took: float
    asleep: float


class Hostile:
    """stop, cancel and quit, many times"""
    STOPS = 20
    CANCELS = 5
    QUITS = 3
    SEED = 1

    def run(self, binary: str, testbed: Testbed,
            strategy: Strategy) -> Figures:
        figures: Figures = {}
        for name, times in self.measure(binary, testbed, strategy).items():
            took = sorted(each.took for each in times)
            figures[name + " ms"] = took[len(took) // 2]
            figures["longest %s ms" % name] = took[-1]
            figures["longest sleep in %s ms" % name] = max(
                each.asleep for each in times)
        return figures

    def measure(self, binary: str, testbed: Testbed,
                strategy: Strategy) -> dict[str, list[HeldUp]]:
        self._random = random.Random(self.SEED)
        stops, cancels, quits = [], [], []
        with self._booted(binary, testbed) as vm:
            migration = self._throttled(vm, testbed, strategy)
            for _ in range(self.STOPS):
                self._change(vm)
                stops.append(self._timed(vm, lambda: vm.cmd("stop")))
                vm.cmd("cont")
            for i in range(self.CANCELS):
                if i:
                    migration = self._throttled(vm, testbed, strategy)
                self._change(vm)
                cancels.append(self._timed(vm, migration.cancel))
        for _ in range(self.QUITS):
            with self._booted(binary, testbed) as vm:
                self._throttled(vm, testbed, strategy)
                self._change(vm)
                quits.append(self._timed(vm, lambda: self._quit(vm)))
        return {"stop": stops, "cancel": cancels, "quit": quits}

    @staticmethod
    def _booted(binary: str, testbed: Testbed) -> StressVM:
        return StressVM(binary, testbed.roles, testbed.ring,
                        ram_mb=testbed.ram_mb).boot()

    def _throttled(self, vm: StressVM, testbed: Testbed,
                   strategy: Strategy) -> Migration:
        """A migration past its first pass that does not end by itself"""
        for i in range(len(testbed.roles)):
            vm.guest.want(i, "writer")
        migration = Migration(
            vm, None, _LINK, 1, strategy.capabilities,
            strategy.all_parameters(testbed.limit)).start()

        def there() -> bool:
            poll = migration.poll()
            if poll.status in ENDED:
                raise TimeLimit("migration %s too early" % poll.status)
            if strategy is NONE:
                return poll.ram("dirty-sync-count") >= 2
            return poll.throttles

        wait_until("throttled", _PATIENCE_SECONDS, there, POLL_SECONDS)
        vm.set_link(LASTING_LINK)
        return migration

    def _change(self, vm: StressVM) -> None:
        """Other roles, and time for them to matter"""
        for i in range(vm.guest.nr_vcpus):
            vm.guest.want(i, self._random.choice(WANTED_ROLES))
        time.sleep(_BETWEEN_SECONDS)
        # Most of them write most of the time
        for i in range(vm.guest.nr_vcpus - 1):
            vm.guest.want(i, self._random.choice(("writer", "writer", "hot")))
        time.sleep(_BETWEEN_SECONDS)

    @staticmethod
    def _timed(vm: StressVM, action: Callable[[], object]) -> HeldUp:
        with Awake(vm.get_pid()) as awake:
            begin = time.monotonic()
            action()
            took = time.monotonic() - begin
        return HeldUp(took * 1000, max(0, took - awake.seconds) * 1000)

    @staticmethod
    def _quit(vm: StressVM) -> None:
        vm.cmd("quit")
        wait_until("quit", _PATIENCE_SECONDS, lambda: not vm.is_running(),
                   _POLL_SECONDS)


def held_up_ms(name: str, times: Sequence[HeldUp]) -> float:
    """
    For how long all of QEMU slept, when it should have done @name

    What the kernel does when a process ends is nobody's CPU time, and takes
    long now and then on a busy machine. So of quits the shortest counts.
    """
    return (min if name == "quit" else max)(each.asleep for each in times)
