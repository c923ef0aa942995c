#
# Dirty throttle chaos: what a process has and does, as /proc tells
#
# Copyright (c) 2026 Dirty throttle maintainers
#
# SPDX-License-Identifier: GPL-2.0-or-later
#

import os
import re

from collections import Counter
from pathlib import Path

from dirtythrottle.chaos import sanitizer

# Threads of pools, which come when there is work and stay for a while
_POOLED = re.compile(r"worker")

# In the names of threads and files: what differs from one to the other
_NUMBERS = re.compile(r"[0-9a-f]*\d[0-9a-f]*")


def _threads(pid: int) -> Counter[str]:
    names = Counter()
    for task in Path("/proc/%d/task" % pid).iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended
            continue
        if not _POOLED.match(name):
            names["thread " + _NUMBERS.sub("N", name)] += 1
    return names


def _files(pid: int) -> Counter[str]:
    names = Counter()
    # A sanitizer that has found something keeps its own file
    reports = str(sanitizer.reports())
    for link in Path("/proc/%d/fd" % pid).iterdir():
        try:
            name = os.readlink(link)
        except FileNotFoundError:
            continue
        if os.path.dirname(name) == reports:
            continue
        names["file " + _NUMBERS.sub("N", name)] += 1
    return names


def resources(pid: int) -> Counter[str]:
    """Threads, open files and timers of a process, by kind"""
    timers = len(re.findall(r"^ID:", Path("/proc/%d/timers" % pid).read_text(),
                            re.MULTILINE))
    return _threads(pid) + _files(pid) + Counter({"timer": timers})


def wants_cpu_ns(pid: int, thread: int) -> int:
    """
    How long a thread has run, or could have if it had got a CPU

    One that never sleeps gains a second of this a second, however busy the
    machine is.
    """
    ran, waited, _ = Path("/proc/%d/task/%d/schedstat" %
                          (pid, thread)).read_text().split()
    return int(ran) + int(waited)
