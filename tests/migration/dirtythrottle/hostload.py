#
# Dirty throttle tests: what else a host does
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

"""
Processes beside a VM: hogs, which take all the CPU time that they get, and a
task that wakes up each millisecond and measures how late.

Run as a program, this file is that task.
"""

import gc
import mmap
import os
import subprocess
import sys
import time

from dataclasses import dataclass
from typing import Any

# A tenth of a second's fair share is much for a task that only wakes up
PERIOD_NS = 1_000_000

# What the task counts, in units of 8 bytes
_COUNT, _TOTAL, _MAX, _WORDS = range(4)

STARTED_SECONDS = 20


def cpu_ns(pid: int, thread: int | None = None) -> int:
    """The CPU time that a thread, by default a process's first, has had"""
    with open("/proc/%d/task/%d/schedstat" % (pid, thread or pid)) as stat:
        return int(stat.read().split()[0])


class Hogs:
    """So many hogs on each CPU that this process may use"""

    def __init__(self, each: int):
        self._each = each
        self._hogs: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Hogs":
        for cpu in sorted(os.sched_getaffinity(0)):
            for _ in range(self._each):
                hog = subprocess.Popen(
                    [sys.executable, "-ISc", "while True: pass"])
                self._hogs.append(hog)
                os.sched_setaffinity(hog.pid, {cpu})
        return self

    def __exit__(self, *args: Any) -> None:
        for hog in self._hogs:
            hog.kill()
        for hog in self._hogs:
            hog.wait()

    @property
    def pids(self) -> list[int]:
        return [hog.pid for hog in self._hogs]

    def cpu_ns(self) -> int:
        """The CPU time that they have had together"""
        return sum(map(cpu_ns, self.pids))


@dataclass(frozen=True)
class Lateness:
    """How late a task has woken up, in microseconds"""
    count: int
    average_us: float | None
    max_us: float


class HostTask:
    """A task that wakes up each millisecond, and counts how late"""

    def __init__(self) -> None:
        self._file = os.memfd_create("host-task")
        os.ftruncate(self._file, mmap.PAGESIZE)
        self._words = memoryview(
            mmap.mmap(self._file, mmap.PAGESIZE)).cast("Q")

    def __enter__(self) -> "HostTask":
        self._task = subprocess.Popen(
            [sys.executable, "-IS", __file__, str(self._file)],
            pass_fds=(self._file,))
        deadline = time.monotonic() + STARTED_SECONDS
        while not self._words[_COUNT]:
            if time.monotonic() > deadline or self._task.poll() is not None:
                self.__exit__()
                raise RuntimeError("the host's task does not run")
            time.sleep(0.01)
        return self

    def __exit__(self, *args: Any) -> None:
        self._task.kill()
        self._task.wait()
        self._words.release()
        os.close(self._file)

    @property
    def pid(self) -> int:
        return self._task.pid

    def begin(self) -> None:
        """Look for the longest anew, and forget what was"""
        self._words[_MAX] = 0
        self._before = self._words[_COUNT], self._words[_TOTAL]

    def lateness(self) -> Lateness:
        """Since begin()"""
        count = self._words[_COUNT] - self._before[0]
        total = self._words[_TOTAL] - self._before[1]
        return Lateness(count, total / count / 1000 if count else None,
                        self._words[_MAX] / 1000)


def next_moment(due: int, now: int, period: int = PERIOD_NS) -> int:
    """The first moment after @now, of those that @due is one of"""
    return due + ((now - due) // period + 1) * period


def _run_task(file: int) -> None:
    gc.disable()
    words = memoryview(mmap.mmap(file, mmap.PAGESIZE)).cast("Q")
    due = now = time.monotonic_ns()
    while True:
        due = next_moment(due, now)
        time.sleep((due - now) / 1e9)
        late = max(0, time.monotonic_ns() - due)
        words[_TOTAL] += late
        words[_COUNT] += 1
        words[_MAX] = max(words[_MAX], late)
        now = time.monotonic_ns()


if __name__ == "__main__":
    _run_task(int(sys.argv[1]))
